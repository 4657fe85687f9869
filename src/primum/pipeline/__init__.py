"""Rooms joined into journeys: named steps, progress, what is done is skipped, what was killed goes on."""
