"""The stages of journeys, one a file: about, Settings, run(context, spec), cost(settings, sizes)."""
