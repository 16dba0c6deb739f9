"""What all tests run under: properties are tried without a stopwatch, as a busy machine's pauses are no failures; and
an interrupt is one, also where the tests are a shell's background job, which ignores it.
"""

import signal

import hypothesis

# Beyond what is in force already: on CI that is a profile with fixed examples.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what the tests start has it again, too
