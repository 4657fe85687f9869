"""primum: make a language model safe, and prove that it is safe and still useful."""

__version__ = "0.1.0"
