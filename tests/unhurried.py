"""What all tests run under: properties are tried without a stopwatch, as a busy machine's pauses are no failures."""

import hypothesis

# Beyond what is in force already: on CI that is a profile with fixed examples.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")
