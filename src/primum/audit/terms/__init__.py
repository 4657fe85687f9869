"""Pronouns and identity terms: which words are counted, and how (Llama 2, arXiv:2307.09288, section 4.1)."""
