"""What connects the predictor with topics, blobs and clients."""
