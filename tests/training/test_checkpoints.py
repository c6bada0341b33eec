"""A run's state on disk: saved, restored to the bit, on other meshes, and what is refused."""

import json
import os
import resource
import shutil
import signal

import _children
import _trainer
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import soak_resume
from _paths import ROOT
from jax.sharding import NamedSharding, PartitionSpec

import flaxmodels as fm
from flaxmodels import params as fp
from flaxmodels import sharding as fs
from flaxmodels.training import Checkpoints, NonFiniteError, check_finite

# Of reads that fail together orbax awaits the first, and closes its event loop; tensorstore tells
# that loop of the others later, from threads of its own.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*Event loop is closed:pytest.PytestUnraisableExceptionWarning"
)

STEPS = 12
TRAINER = ROOT / "tests/helpers/_trainer.py"


@pytest.fixture(scope="module")
def curve():
    return _trainer.curve(STEPS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Steps 4 and 8 of a run, to be copied and not changed."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with Checkpoints(folder, every=4) as checkpoints:
        _trainer.run(checkpoints, 8)
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def same(one, two):
    """Whether two trees are alike to the last bit: structure, dtypes and values."""
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    return True


def restored_from(checkpoints, state, **options):
    found = checkpoints.restore(state, **options)
    assert found is not None
    return found


def went_on(checkpoints, steps=STEPS):
    losses = {}
    _trainer.run(checkpoints, steps, lambda step, loss: losses.update({step: float(loss).hex()}))
    return losses


def test_a_run_goes_on_to_the_last_bit(copy, curve):
    with Checkpoints(copy, every=4, keep=2) as checkpoints:
        assert checkpoints.steps == [4, 8]
        losses = went_on(checkpoints)
        assert losses == {step: curve[step] for step in range(9, STEPS + 1)}
    assert checkpoints.steps == [8, 12]  # the oldest made room


def test_what_is_written_while_training_goes_on_is_the_state_of_its_step(tmp_path):
    """The step after a save is given the buffers of the state that is being written."""
    state = _trainer.init()
    kept = {}
    with Checkpoints(tmp_path / "run", every=2, keep=None) as checkpoints:
        for step in range(6):
            state, _ = _trainer.train_step(state, np.full((8, _trainer.WIDTH), step, np.float32))
            if checkpoints.save(state, {"step": step}):
                kept[step + 1] = jax.tree.map(jnp.copy, state)
    abstract = jax.eval_shape(_trainer.init)
    for step, expected in kept.items():
        restored, data = restored_from(checkpoints, abstract, step=step)
        assert same(restored, expected) and data == {"step": step - 1}
    assert sorted(kept) == [2, 4, 6]


def test_every_kind_of_leaf_comes_back(tmp_path):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(32, 32)), jnp.float32)
    params = fp.quantize({"layer": {"kernel": kernel}}, "int8")
    state = {
        "params": params,
        "keys": jax.random.split(jax.random.key(1, impl="rbg"), 3),
        "counts": np.arange(3),
        "empty": jnp.zeros((0, 4), jnp.bfloat16),
        "rate": 0.5,
        "nothing": None,
        "bits": [jnp.asarray([1, 2], jnp.int4), jnp.asarray([0.5], jnp.float8_e4m3fn)],
    }
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.restore(state) is None
    assert checkpoints.save(state, step=3)
    checkpoints.close()
    restored, data = restored_from(checkpoints, state)
    assert data is None and restored["rate"] == 0.5 and type(restored["rate"]) is float
    assert type(restored["counts"]) is np.ndarray
    del restored["rate"], state["rate"]
    assert same(restored, state) and isinstance(restored["params"]["layer"]["kernel"], fp.QTensor)
    assert jax.random.uniform(restored["keys"][1]) == jax.random.uniform(state["keys"][1])


def test_adapters_alone_are_saved_and_joined_with_the_base(tmp_path):
    kernel = jnp.ones((16, 16), jnp.float32)
    config = fp.PeftConfig(r=2, target_modules=["layer"])
    params = fp.lora_init(jax.random.key(0), {"layer": {"kernel": kernel}}, config)
    trained, frozen = fp.split_adapters(params)

    def state_of(trained, frozen):
        return _trainer.State(jnp.int32(5), trained, frozen, None, jax.random.key(0))

    state = state_of(trained, frozen)
    checkpoints = Checkpoints(tmp_path / "run", frozen=False)
    checkpoints.save(state)
    checkpoints.close()
    assert "frozen/" not in (tmp_path / "run/5/run/metadata").read_text()
    restored, _ = restored_from(
        checkpoints, state_of(jax.tree.map(jnp.zeros_like, trained), frozen)
    )
    assert same(restored, state)
    with pytest.raises(fm.CheckpointError, match=r"saved without `frozen`.*steps\.init\(params\)"):
        checkpoints.restore(jax.eval_shape(lambda: state))
    with pytest.raises(fm.CheckpointError, match="without `frozen`"):
        checkpoints.params()


def placed(tree, mesh, spec):
    return jax.tree.map(
        lambda x: jax.device_put(
            x, NamedSharding(mesh, spec if getattr(x, "ndim", 0) == 2 else PartitionSpec())
        ),
        tree,
    )


def test_a_state_is_resharded_to_another_mesh(tmp_path, copy):
    one, two = fs.make_mesh(fsdp=4, tensor=2), fs.make_mesh(fsdp=2, tensor=4)
    state = placed(_trainer.init(), one, PartitionSpec("fsdp", "tensor"))
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(state, step=1)
    checkpoints.close()
    other = placed(state, two, PartitionSpec("tensor", "fsdp"))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), other
    )
    restored, _ = restored_from(checkpoints, abstract)
    assert same(restored, state)
    for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(other), strict=True):
        assert x.sharding == y.sharding
    alone, _ = restored_from(Checkpoints(copy), abstract)  # from one device
    assert alone.trained["up"]["kernel"].sharding == other.trained["up"]["kernel"].sharding


def test_params_come_out_alone_and_are_saved_as_a_model(copy):
    checkpoints = Checkpoints(copy)
    expected, _ = restored_from(checkpoints, _trainer.init())
    params = checkpoints.params()
    assert same(params, jax.tree.map(np.asarray, expected.params))
    assert same(checkpoints.params(jax.eval_shape(_trainer.init), step=8), expected.params)
    with pytest.raises(fm.CheckpointError, match="has no ema, but frozen, key, opt_state"):
        checkpoints.params(averaged=True)


def test_a_checkpoint_of_another_state_is_refused_with_its_leaves(copy):
    state = _trainer.init()
    before = jax.tree.map(jnp.copy, state)
    checkpoints = Checkpoints(copy)
    sgd = state.replace(opt_state=optax.sgd(0.1, momentum=0.9).init(state.trained))
    with pytest.raises(fm.CheckpointError) as error:
        checkpoints.restore(sgd)
    said = str(error.value)
    assert f"{copy}/8 is of another state: " in said and "Checkpoints.params()" in said
    assert "opt_state/0/trace/up/kernel: expected float32[32, 32], found nothing" in said
    assert "opt_state/0/mu/down/kernel: expected nothing, found bfloat16[32, 32]" in said
    wide = {**state.trained, "up": {"kernel": jnp.zeros((32, 64), jnp.bfloat16)}}
    with pytest.raises(
        fm.CheckpointError,
        match=r"trained/up/kernel: expected bfloat16\[32, 64\], found float32\[32, 32\]",
    ):
        checkpoints.restore(state.replace(trained=wide))
    other_key = state.replace(key=jax.random.key(0, impl="rbg"))
    with pytest.raises(fm.CheckpointError, match=r"key: expected key<rbg>\[\], found key<fry>\[\]"):
        checkpoints.restore(other_key)
    assert same(state, before) and checkpoints.steps == [4, 8]


def arrays(step):
    return [x for x in step.glob("state/ocdbt.process_0/d/*") if x.is_file()]


def cut(step):
    for file in arrays(step):
        os.truncate(file, file.stat().st_size // 2)


HARMS = {
    "arrays are cut": cut,
    "arrays are gone": lambda step: [file.unlink() for file in arrays(step)],
    "the manifest is gone": lambda step: (step / "state/manifest.ocdbt").unlink(),
    "the record is cut": lambda step: os.truncate(step / "run/metadata", 50),
    "the record is another's": lambda step: (step / "run/metadata").write_text('{"version": 9}'),
    "a part is gone": lambda step: shutil.rmtree(step / "run"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_cannot_be_read_gives_way_to_the_step_before(harm, copy, curve):
    HARMS[harm](copy / "8")
    with Checkpoints(copy, every=4) as checkpoints:
        with pytest.raises(fm.CheckpointError, match=f"{copy}/8"):
            checkpoints.restore(_trainer.init(), step=8)
        with pytest.warns(UserWarning) as warned:
            losses = went_on(checkpoints)
    said = [str(each.message) for each in warned]
    assert f"{copy}/8" in said[0] and "step 4 is taken, the last that can be read" in said[0]
    assert "later ones are renamed" in said[1] and "8.aside" in said[1]
    assert losses == {step: curve[step] for step in range(5, STEPS + 1)}
    assert checkpoints.steps == [4, 8, 12] and (copy / "8.aside").is_dir()


def test_if_none_can_be_read_it_says_why(copy):
    for step in (4, 8):
        cut(copy / str(step))
    with pytest.raises(fm.CheckpointError, match=r"/8/state: .*/4/state: .*none of the steps 4, 8"):
        Checkpoints(copy).restore(_trainer.init())


def test_a_run_goes_back_to_a_step_that_is_asked_for(copy, curve):
    with Checkpoints(copy, every=2) as checkpoints:
        with pytest.raises(fm.CheckpointError, match="there is no step 5, but 4, 8"):
            checkpoints.restore(_trainer.init(), step=5)
        state, _ = restored_from(checkpoints, _trainer.init(), step=4)
        assert not checkpoints.save(state, force=True)  # it is saved already
        state, _ = _trainer.train_step(state, np.zeros((8, _trainer.WIDTH), np.float32))
        with pytest.warns(UserWarning, match=r"later ones are renamed .*8\.aside"):
            assert checkpoints.save(state, force=True)
    assert checkpoints.steps == [4, 5]


def test_folders_of_others_are_not_written_to(copy, tmp_path):
    checkpoints = Checkpoints(copy)
    with pytest.raises(fm.CheckpointError, match=r"checkpoints of steps 4, 8, and this run was no"):
        checkpoints.save(_trainer.init(), force=True)
    with pytest.raises(fm.CheckpointError, match="itself an orbax checkpoint.*give the folder"):
        Checkpoints(copy / "8")
    (tmp_path / "file").write_text("")
    with pytest.raises(fm.CheckpointError, match="a file; expected a folder"):
        Checkpoints(tmp_path / "file")
    (tmp_path / "rest/9.orbax-checkpoint-tmp").mkdir(parents=True)
    with pytest.warns(UserWarning, match="no save was finished; the rest of one is there: 9.orbax"):
        assert Checkpoints(tmp_path / "rest").restore(_trainer.init()) is None
    with pytest.raises(fm.CheckpointError, match="there is no checkpoint"):
        Checkpoints(tmp_path / "none").params()
    assert Checkpoints(copy).steps == [4, 8]


def test_the_best_stays_beside_the_newest(tmp_path):
    state = {"w": jnp.zeros(2)}
    losses = {1: 3.0, 2: 1.0, 3: float("nan"), 4: 2.0, 5: 4.0}
    checkpoints = Checkpoints(tmp_path / "run", keep=2, best=("eval_loss", "min"), async_=False)
    with pytest.raises(ValueError, match="best is 'eval_loss'; metrics have loss"):
        checkpoints.save(state, step=1, metrics={"loss": 1.0})
    for step, loss in losses.items():
        checkpoints.save(state, step=step, metrics={"eval_loss": jnp.float32(loss)})
    checkpoints.close()
    assert checkpoints.steps == [2, 4, 5] and checkpoints.best_step == 2


def test_arguments_are_checked(tmp_path):
    odd_bests = ({"best": best} for best in (("loss", "least"), "loss", 3, ("loss",), (3, "min")))
    odd_flags = {"frozen": "no"}, {"async_": 1}, {"exit_status": "1"}
    for given in ({"every": 0}, {"keep": 0}, {"every": True}, *odd_bests, *odd_flags):
        with pytest.raises(ValueError, match=f"{next(iter(given))} is .*expected"):
            Checkpoints(tmp_path / "run", **given)
    with pytest.raises(ValueError, match="folder is ''; expected the name of a folder"):
        Checkpoints("")
    with pytest.raises(ValueError, match="folder is None; expected the name of a folder"):
        Checkpoints(None)
    (tmp_path / "file").touch()
    with pytest.raises(fm.CheckpointError, match="file/run: cannot be written: .*Not a directory"):
        Checkpoints(tmp_path / "file/run").save({"w": jnp.zeros(2)}, step=1)
    with pytest.raises(ValueError, match="no field `step`; give save"):
        Checkpoints(tmp_path / "run").save({"w": jnp.zeros(2)})
    with pytest.raises(TypeError, match="data is .*batches.state"):
        Checkpoints(tmp_path / "run").save({"w": jnp.zeros(2)}, data=object(), step=1)
    assert not (tmp_path / "run").exists()


def gone(x):
    x.delete()
    return x


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"step": "3"}, ValueError, "step is '3'; expected a whole number"),
        (
            {"step": True},
            ValueError,
            "step is True; expected a whole number",
        ),  # what no restore would find
        ({"step": 3.0}, ValueError, "step is 3.0; expected a whole number"),
        ({"step": -1}, ValueError, "step is -1; expected at least 0"),
        ({"metrics": {"a": "x"}}, ValueError, "metric 'a' is 'x'; expected a number"),
        ({"metrics": [1.0]}, ValueError, "metrics are a list; expected {name: number}"),
        ({"data": {1: 2}}, TypeError, "names in JSON are texts"),
        ({"data": "\ud800"}, TypeError, "half of a surrogate pair"),
        ({"state": {}}, ValueError, "no arrays, so that there is nothing to save"),
        ({"state": {"w": "abc"}}, TypeError, "w is 'abc', a str; expected a number"),
        ({"state": {"w": np.array([1], object)}}, TypeError, "w is .*, a ndarray; expected"),
        ({"state": {"w": np.ma.array([1.0], mask=[1])}}, TypeError, "a MaskedArray; expected"),
        ({"state": jax.eval_shape(lambda: {"w": 1.0})}, TypeError, "a ShapeDtypeStruct; expected"),
        ({"state": {"w": gone(jnp.arange(3))}}, ValueError, "w was donated, and is gone: give"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(given, error, message, copy):
    """A save that comes after it is that of the run."""
    with Checkpoints(copy, async_=False) as checkpoints:
        state, _ = restored_from(checkpoints, _trainer.init())
        with pytest.raises(error, match=message):
            checkpoints.save(**{"state": state, "step": 9} | given)
        assert sorted(os.listdir(copy)) == ["4", "8"]
        assert checkpoints.save(state, step=9)


def test_nothing_is_saved_or_restored_in_a_trace(copy):
    checkpoints = Checkpoints(copy)
    for call in (lambda state: checkpoints.save(state, step=9), checkpoints.restore):
        with pytest.raises(TypeError, match="is traced: call Checkpoints outside of jax.jit"):
            jax.eval_shape(call, _trainer.init())
    state = _trainer.init()
    with pytest.raises(ValueError, match="step was donated, and is gone"):
        Checkpoints(copy).save(state.replace(step=gone(state.step + 0)))
    with pytest.raises(ValueError, match="step is '4'; expected a whole number"):
        checkpoints.restore(state, step="4")


LIES = {
    "a dtype": ("leaves", "step", [[], "float99", ""]),
    "a shape below 0": ("leaves", "step", [[-1], "int32", ""]),
    "keys of another kind": ("leaves", "key", [[], "key<fry>", "nope"]),
    "metrics that are texts": ("metrics", "loss", "low"),
}


@pytest.mark.parametrize("lie", LIES)
def test_records_that_lie_give_way_to_the_step_before(lie, copy):
    group, name, value = LIES[lie]
    file = copy / "8/run/metadata"
    record = json.loads(file.read_text())
    record[group][name] = value
    file.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="step 4 is taken, the last that can be read"):
        state, _ = restored_from(Checkpoints(copy), _trainer.init())
    assert int(state.step) == 4


def test_arrays_that_are_not_what_the_record_says_are_none(copy):
    """Neither another shape nor none at all becomes a part of a state."""
    for step in ("4", "8"):
        file = copy / step / "run/metadata"
        record = json.loads(file.read_text())
        record["leaves"] |= {"frozen/scale": [[4], "float32", ""]}
        file.write_text(json.dumps(record))
    state = _trainer.init()
    small = state.replace(frozen={"scale": np.zeros(4, np.float32)})
    with pytest.raises(fm.CheckpointError, match=r"frozen/scale.* shape \(4,\), found \(32,\)"):
        Checkpoints(copy).restore(small)
    (copy / "8/run/metadata").write_text("[" * 100_000)
    with pytest.raises(fm.CheckpointError, match="nested too deeply"):
        Checkpoints(copy).restore(state, step=8)


def test_a_full_disk_leaves_the_old_ones(copy):
    """Files may have 2000 bytes, which the kernel sees to."""
    checkpoints = Checkpoints(copy, every=4, keep=2)
    state, _ = restored_from(checkpoints, _trainer.init())
    state = state.replace(step=state.step + 4)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(fm.CheckpointError, match=r"12 was not saved.*are there: 4, 8"):
            checkpoints.save(state, force=True)
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert checkpoints.steps == [4, 8]
    assert checkpoints.save(state, force=True)  # there is space again
    checkpoints.close()
    assert sorted(os.listdir(copy)) == ["12", "8"]
    assert same(restored_from(checkpoints, state)[0], state)


def test_SIGTERM_saves_at_the_next_step_and_ends_the_run(tmp_path, curve):
    before = signal.getsignal(signal.SIGTERM)

    def say(step, loss):
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        with Checkpoints(tmp_path / "run", every=100) as checkpoints:
            _trainer.run(checkpoints, STEPS, say)
            assert checkpoints.should_stop and checkpoints.steps == [5]
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    with Checkpoints(tmp_path / "run", every=100) as checkpoints:
        assert went_on(checkpoints) == {step: curve[step] for step in range(6, STEPS + 1)}


def test_a_signal_that_nobody_acted_on_is_passed_on(tmp_path):
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        with Checkpoints(tmp_path / "run"):
            signal.raise_signal(signal.SIGTERM)
            assert not came
        assert came == [1]
        with pytest.raises(KeyError), Checkpoints(tmp_path / "run"):
            raise KeyError
        assert came == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_step_that_is_not_finite_is_named():
    check_finite({"finite": jnp.asarray(True), "loss": jnp.float32(1)}, 3)
    with pytest.raises(NonFiniteError, match="step 7 is not finite: loss nan, grad_norm 2; ") as e:
        check_finite({"finite": False, "loss": jnp.float32("nan"), "grad_norm": 2.0}, 7)
    assert e.value.step == 7
    with pytest.raises(NonFiniteError, match="step 9 is not finite: loss inf; "):
        check_finite({"loss": jnp.asarray([1.0, 2.0, jnp.inf, jnp.nan])}, 7)
    with pytest.raises(KeyError, match="expected metrics with 'finite' or 'loss', got a"):
        check_finite({"a": 1}, 1)


def killed(folder, *kill):
    """Runs the trainer until it is killed -> {step: loss}."""
    child = _children.run(TRAINER, folder, *map(str, (STEPS, 2, "async", *kill)))
    assert child.returncode == -9, child.stderr[-2000:]
    return {int(line.split()[0]): line.split()[1] for line in child.stdout.splitlines()}


def test_a_run_that_is_killed_goes_on_to_the_last_bit(tmp_path, curve, thorough):
    """While a step is being written or soon after; with `--all` before one is, too."""
    folder = tmp_path / "run"
    losses = killed(folder, 7, 0.003)
    assert losses == {step: curve[step] for step in losses} and 6 in losses
    again = {}
    if thorough:
        again = killed(folder, 10, 0)
        assert min(again) in (5, 7)  # step 4 was on disk when 6 was begun
        assert again == {step: curve[step] for step in again} and max(again) == 9
    with Checkpoints(folder, every=2, keep=2) as checkpoints:
        rest = went_on(checkpoints)
    assert min(rest) <= 10 and losses | again | rest == curve
    assert sorted(os.listdir(folder)) == ["10", "12"]  # no rest of a save


@pytest.mark.soak
@pytest.mark.parametrize("mode", soak_resume.MODES.values())
def test_thirty_kills(mode):
    found = soak_resume.soak(mode, 30, seed=1)
    assert not found["wrong"] and found["in a save"] and found["redone"], found
