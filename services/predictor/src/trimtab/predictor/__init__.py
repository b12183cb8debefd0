"""Assembles feature vectors, scores them and logs every prediction."""
