"""For every combination of valid values, the chart renders and every check passes."""

import secrets

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from deploy import strategies
from deploy.checks.every import faults_of
from deploy.helm import render
from deploy.manifests import Values

# New in every run. Failed examples are kept in .hypothesis and tried first in the next run.
SEED = secrets.randbelow(2**32)
# A quarter of the profile's number: each example starts helm once, and all checks take as long again.
EXAMPLES = settings().max_examples // 4


@pytest.mark.timeout(900)
@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=False,
    print_blob=True,
    # No shrinking: each of its hundreds of steps would start helm, and a fault names its object anyway.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(values=strategies.values(), name=strategies.release_names)
def test_every_valid_combination_of_values_passes(values: Values, name: str) -> None:
    release = render(values, name=name)

    faults = faults_of(release)

    assert faults == [], f"seed {SEED}"
