"""Topics, schemas, generated models, codecs and envelopes: what services say to each other."""
