"""The declaration of a loop: parse, check, features and labels as of a time."""
