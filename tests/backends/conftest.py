"""Lets the shared suite of this folder show what its assertions compared."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.backends.conformance")
