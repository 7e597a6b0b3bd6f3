"""A model -> a GGUF that is proven to be it."""
