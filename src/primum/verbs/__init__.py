"""The small verbs that are no step of a journey: one file a verb, each with its configuration and `run_verb`."""
