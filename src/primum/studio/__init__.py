"""The studio: people in the loop. Web pages on which people vote, rate, attack, review prompts and read runs.

    tables, database, migrations   what is kept, and where (SQLite in the data folder, or PostgreSQL)
    accounts, audit, security      who may do what, and the log of who did
    annotate, agree, exchange      votes, how far people agree, and the files that go in and out
    library, review, validate      prompt templates as versions that nobody can change, and their way into production
    web, pages/                    requests to pages; a page knows no other page

It writes the records of `core/records.py` and reads them; it knows nothing of training.
"""
