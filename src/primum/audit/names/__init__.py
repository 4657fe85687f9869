"""Names of people, found by a recognizer of the user's choice on a sample of the documents; never kept."""
