"""Toxicity by line, averaged by document (Llama 2, page 21), and what filtering by it would erase."""
