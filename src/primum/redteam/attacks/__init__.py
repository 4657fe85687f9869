"""The catalogue of attacks: one a file. Each wraps a given request in general words and holds no harmful detail."""
