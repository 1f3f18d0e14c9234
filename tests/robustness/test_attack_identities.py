"""Identities of attacks, byte for byte: stored outcomes count as done only while these stay as they are."""

from __future__ import annotations

import json

import pytest

from robustness.attack import Attack

STORED = [
    (
        Attack(name="autoattack", norm="linf", eps=8 / 255),
        '{"batch_size":100,"eps":0.03137254901960784,"name":"autoattack","norm":"linf","parts":[],"queries":5000,'
        '"version":"standard"}',
    ),
    (
        Attack(
            name="autoattack", norm="l2", eps=0.5, version="custom", parts=("fab-t", "square"), queries=7, batch_size=9
        ),
        '{"batch_size":9,"eps":0.5,"name":"autoattack","norm":"l2","parts":["fab-t","square"],"queries":7,'
        '"version":"custom"}',
    ),
    (
        Attack(name="pgd", norm="linf", eps=0.5, losses=("ce", "targeted"), random_start=False),
        '{"batch_size":100,"eps":0.5,"losses":["ce","targeted"],"name":"pgd","norm":"linf","random_start":false,'
        '"restarts":1,"step_size":0.0625,"steps":20,"targets":3,"version":2}',
    ),
    (
        Attack(name="FGSM", norm="linf", eps=0.5),
        '{"batch_size":100,"eps":0.5,"name":"FGSM","norm":"linf","options":{},"version":2}',
    ),
    (
        Attack(name="CW", norm="l2", eps=0.5, options={"steps": 10, "c": 2.0}, label="cw"),
        '{"batch_size":100,"eps":0.5,"name":"CW","norm":"l2","options":{"c":2.0,"steps":10}}',
    ),
]


@pytest.mark.parametrize(("attack", "stored"), STORED, ids=lambda value: getattr(value, "label", ""))
def test_identities_are_byte_for_byte_those_of_stored_outcomes(attack, stored):
    assert json.dumps(attack.identity(), sort_keys=True, separators=(",", ":")) == stored
