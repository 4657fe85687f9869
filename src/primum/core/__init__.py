"""The words everyone uses: records, taxonomy, errors, configuration, store, statistics. No torch."""
