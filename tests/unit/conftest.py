"""Tests of properties take the time they take."""

import tests.rig.properties  # noqa: F401  # for its effect: hypothesis is configured before a test is read
