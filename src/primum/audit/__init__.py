"""Corpora to findings: what is in the data before it is in the model.

    reading/        files -> blocks of whole records -> documents; what cannot be read is reported and passed over
    pii/            personal information by patterns and check digits; masking
    lexicon, terms  pronouns and identity terms, by document, with the paper's denominators
    language        fastText language identification
    engine          blocks -> shards on every core, with resume; steps see the documents, counts are merged in order
    ledger          who has reviewed which source

A step never keeps what it found: positions and counts are written, values are not.
"""
