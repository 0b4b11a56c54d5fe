from conftest import fake_result

from selfsup.reproduction.provenance import (
    dataset_of,
    describe_origin,
    describe_scale,
    is_paper_scale,
    preset_of,
)


def test_the_preset_is_told_from_the_settings():
    for preset in ("paper", "lite", "quick"):
        for experiment in ("directpred", "simsiam", "simsiam_symmetric_tuned"):
            assert preset_of(fake_result(experiment, 50.0, preset)) == preset
    result = fake_result("directpred", 50.0)
    result.config["width"] = 32
    assert preset_of(result) is None
    result.config["method"] = "power"  # which only the process of the run knew
    assert preset_of(result) is None


def test_the_papers_scale_needs_its_settings_and_as_many_images():
    paper = fake_result("directpred", 50.0)
    assert is_paper_scale([paper])
    assert not is_paper_scale([])
    assert not is_paper_scale([paper, fake_result("sgd", 50.0, "lite")])
    copies = fake_result("directpred", 50.0)
    copies.config["dataset"] = "copies.npz"
    assert is_paper_scale([copies])
    fewer = fake_result("directpred", 50.0)
    fewer.dataset["train"] = 10_000
    assert not is_paper_scale([fewer])
    assert not is_paper_scale([fake_result("directpred", 50.0, swapped={"loss": "mine"})])
    assert not is_paper_scale([fake_result("directpred", 50.0, monitor={"epoch": 7})])


def test_published_accuracies_of_stl10_are_shown_beside_runs_on_it():
    stl10, copies = fake_result("directpred", 70.0, "stl10"), fake_result("directpred", 70.0, "stl10")
    copies.dataset["name"] = "images.npz"
    shorter = fake_result("directpred", 70.0, "stl10")
    shorter.config["epochs"] = 2
    shorter.dataset["name"] = "stl10_96.npz"
    assert dataset_of([stl10, copies, shorter], "paper") == "stl10"
    assert dataset_of([stl10, fake_result("sgd", 70.0)], "stl10") == "cifar10"
    assert dataset_of([], "stl10") == "stl10"
    assert dataset_of([], "lite") == "cifar10"


def test_every_fact_is_said_once():
    results = [fake_result("directpred", 50.0), fake_result("sgd", 50.0, "lite")]
    assert describe_scale(results) == (
        "preset paper or preset lite; width 64 or width 16; 100 epochs or 10 epochs; batch 128; "
        "cifar10 (50,000 training and 10,000 test images)"
    )
    assert describe_origin(results[:1]) == (
        "a device; tensorflow, float32; keras 3.15.1, python 3.11.7; commit c0ffee"
    )


def test_jpeg_copies_are_said():
    result = fake_result("directpred", 50.0)
    result.dataset["note"] = "JPEG copies of the images"
    assert "10,000 test images, JPEG copies of the images" in describe_scale([result])
