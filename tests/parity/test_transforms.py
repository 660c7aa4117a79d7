"""Transforms: what they make of each sample, with which seed, and that they can be recorded."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire
from gradwire import transforms
from gradwire.recorder.trace import trace

IMAGES = np.random.default_rng(0).random((64, 3, 6, 5), np.float32)


def images() -> gradwire.Tensor:
    return gradwire.tensor(IMAGES)


@pytest.mark.parametrize(
    ("flip", "axis"),
    [(transforms.RandomHorizontalFlip, -1), (transforms.RandomVerticalFlip, -2)],
)
def test_each_sample_is_mirrored_or_not_by_itself(flip: Any, axis: int) -> None:
    gradwire.manual_seed(0)
    flipped = flip(0.5)(images()).numpy()
    mirrored = np.flip(IMAGES, axis)
    chosen = [np.array_equal(a, b) for a, b in zip(flipped, mirrored, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, IMAGES, strict=True)]
    assert all(a != b for a, b in zip(chosen, kept, strict=True))
    assert 16 < sum(chosen) < 48
    assert np.array_equal(flip(1.0)(images()).numpy(), mirrored)
    assert np.array_equal(flip(0.0)(images()).numpy(), IMAGES)


def test_a_random_crop_is_a_part_of_each_padded_image() -> None:
    gradwire.manual_seed(0)
    cropped = transforms.RandomCrop((4, 5), padding=1)(images()).numpy()
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = set()
    for part, whole in zip(cropped, padded, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(3)
            if np.array_equal(part, whole[:, top : top + 4, left : left + 5])
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) == 15


def test_the_middle_is_cropped() -> None:
    assert np.array_equal(transforms.CenterCrop((2, 3))(images()).numpy(), IMAGES[..., 2:4, 1:4])


def test_images_are_scaled_and_normalised() -> None:
    pixels = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2)
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]
    transform = transforms.Compose(
        [transforms.ToDtype(gradwire.float32, scale=True), transforms.Normalize(mean, std)]
    )
    result = transform(gradwire.tensor(pixels)).numpy()
    means, stds = (np.array(v, np.float32).reshape(3, 1, 1) for v in (mean, std))
    np.testing.assert_array_equal(result, (pixels.astype(np.float32) / 255 - means) / stds)
    rows = transforms.Normalize([1, 2], 2)(gradwire.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert rows.tolist() == [[0, 0], [1, 1]]


def test_noise_has_its_mean_and_deviation() -> None:
    gradwire.manual_seed(0)
    noise = (transforms.GaussianNoise(0.5, 0.1)(images()) - images()).numpy()
    assert abs(noise.mean() - 0.5) < 0.01
    assert abs(noise.std() - 0.1) < 0.01
    clipped = transforms.GaussianNoise(sigma=1, clip=True)(images()).numpy()
    assert clipped.min() >= 0
    assert clipped.max() <= 1


def test_classes_become_vectors() -> None:
    labels = gradwire.tensor([2, 0])
    assert transforms.OneHot(3)(labels).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert transforms.OneHot(3, gradwire.int64)(labels).dtype is gradwire.int64
    with pytest.raises(RuntimeError, match="smaller than num_classes"):
        transforms.OneHot(2)(labels).tolist()


RANDOM = [
    transforms.RandomHorizontalFlip(),
    transforms.RandomVerticalFlip(),
    transforms.RandomCrop(3),
    transforms.GaussianNoise(),
]


@pytest.mark.parametrize("transform", RANDOM)
def test_a_seed_fixes_what_is_random(transform: Callable[[Any], Any]) -> None:
    results = []
    for seed in (1, 1, 2):
        gradwire.manual_seed(seed)
        results.append(transform(images()).numpy())
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("transform", RANDOM)
def test_nothing_is_random_in_evaluation(transform: Callable[[Any], Any]) -> None:
    with transforms.evaluating():
        first, second = transform(images()).numpy(), transform(images()).numpy()
    assert np.array_equal(first, second)
    with transforms.evaluating():
        padded = transforms.RandomCrop(8, padding=2)(images())
    assert list(padded.shape) == [64, 3, 8, 8]


@pytest.mark.parametrize(
    "transform",
    [
        *RANDOM,
        transforms.RandomCrop(6, padding=2),
        transforms.CenterCrop(3),
        transforms.Normalize([0.1, 0.2, 0.3], 1),
        transforms.ToDtype(gradwire.float64),
    ],
)
def test_what_is_recorded_fits_batches_of_any_size(transform: Callable[[Any], Any]) -> None:
    session = gradwire.current_session()
    programs = [trace(session, transform, [images()[:size]])[0] for size in (5, 1)]
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transforms.RandomHorizontalFlip(2), "probability"),
        (lambda: transforms.Normalize(0, 0), "zero"),
        (lambda: transforms.Normalize([0, 1], [1, 0]), "zero"),
        (lambda: transforms.RandomCrop(0), "positive"),
        (lambda: transforms.RandomCrop(9)(images()), "padding"),
        (lambda: transforms.CenterCrop(9)(images()), "9 of 6"),
        (lambda: transforms.GaussianNoise(sigma=-1), "negative"),
        (lambda: transforms.OneHot(0), "positive"),
        (lambda: transforms.ToDtype(gradwire.int64, scale=True), "floating"),
        (lambda: transforms.RandomHorizontalFlip()(gradwire.ones(3, 2)), "images"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_transform_shows_how_it_was_made() -> None:
    composed = transforms.Compose([transforms.RandomCrop(3, padding=1), transforms.OneHot(2)])
    assert repr(composed) == (
        "Compose(transforms=[RandomCrop(size=(3, 3), padding=1), "
        "OneHot(num_classes=2, dtype=None)])"
    )
