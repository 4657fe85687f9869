"""Files to documents: blocks of whole records in, documents out; whatever cannot be read is named and passed over."""
