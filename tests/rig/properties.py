"""How hypothesis runs here: machines of tests are busy with other tests, so that no example's time says anything."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
