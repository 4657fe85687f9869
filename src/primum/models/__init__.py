"""Names to models: the embedded default, Hugging Face, GGUF, adapters; chat templates; engines."""
