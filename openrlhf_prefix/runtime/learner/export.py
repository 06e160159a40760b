"""HF folders that load everywhere: of the weights of a run, or of a checkpoint without any cluster.

    openrlhf-prefix export runs/x/checkpoints/_actor/global_step4 OUT
    openrlhf-prefix export runs/x OUT                     # of its newest complete checkpoint
    openrlhf-prefix export runs/x OUT --adapter           # what LoRA trained, as PEFT and vLLM load it

An export holds safetensors shards, config, generation config with every id that ends a response, tokenizer and chat
template, a card (card.py), and the tensor names of the model that training started from: with tied embeddings no
second copy of them, whatever ZeRO stage gathered the weights, and LoRA merged. Both ways write through write(), so
that they agree to the bit.
"""

import contextlib
import copy
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, TaskType
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from openrlhf_prefix.checkpoint import manifest
from openrlhf_prefix.checkpoint.kinds import is_checkpoint, refuse_export_as_checkpoint
from openrlhf_prefix.checkpoint.store import Store, place
from openrlhf_prefix.errors import UserError
from openrlhf_prefix.report.run_folder import RunFolder
from openrlhf_prefix.runtime import seams
from openrlhf_prefix.runtime.learner import average, lora, pickles
from openrlhf_prefix.runtime.learner.card import write_card
from openrlhf_prefix.runtime.learner.checkpoints import COMPANIONS, rank_file
from openrlhf_prefix.settings.model import read_config, read_tokenizer, refuse_code, stop_ids

NAMES = "tensors.json"  # tensor names of the model that training started from; null where it does not tell them
SHARD = "5GB"
DTYPE = torch.bfloat16  # of every export, as of training and engines


def write_companions(folder: Path, config: Any, args: SimpleNamespace) -> None:
    """All files of an export but its weights.

    Args:
        config: of the model in training; what training alone needs of it is undone.
        args: nested flags; the source model, and the stop ids are read.
    """
    folder.mkdir()
    name = args.actor.model_name_or_path
    source, exported = read_config(args), copy.deepcopy(config)
    exported.use_cache, exported.pad_token_id = source.use_cache, source.pad_token_id
    exported.dtype = str(DTYPE).removeprefix("torch.")
    exported.save_pretrained(folder)
    tokenizer = read_tokenizer(args)
    tokenizer.save_pretrained(folder)
    try:
        generation = GenerationConfig.from_pretrained(name)
    except OSError:  # a model without that file
        generation = GenerationConfig.from_model_config(source)
    ends = stop_ids(args, tokenizer)
    generation.eos_token_id = ends if len(ends) > 1 else ends[0]
    generation.save_pretrained(folder)
    if args.model.trust_remote_code:
        for path in sorted(_folder(name).glob("*.py")):
            shutil.copy(path, folder)
    (folder / NAMES).write_text(json.dumps(tensor_names(name)), encoding="utf-8")


@contextlib.contextmanager
def temporary_companions(config: Any, args: SimpleNamespace) -> Iterator[Path]:
    """write_companions() in a folder that is gone after the block."""
    with tempfile.TemporaryDirectory() as folder:
        write_companions(Path(folder) / COMPANIONS, config, args)
        yield Path(folder) / COMPANIONS


def gather(engine: Any, args: SimpleNamespace) -> dict[str, torch.Tensor]:
    """The weights of a DeepSpeed engine on the CPU of rank 0, nothing on the others; all ranks have to call this.

    A node has one memory and many ranks: the model has to be in it once.
    """
    first = torch.distributed.get_rank() == 0
    if not args.ds.lora.rank and args.ds.zero_stage > 2:
        return engine._consolidated_16bit_state_dict() or {}  # OpenRLHF's way too; the public one writes files
    tensors = engine.module.state_dict().items()
    if args.ds.lora.rank:
        tensors = lora.merged_parameters(engine.module, lora.scaling(args.ds.lora))
    state = {}
    for name, tensor in tensors:  # every rank goes through all: under ZeRO-3 each is gathered on the way
        if first:
            state[name] = tensor.detach().cpu()
    return state


def _folder(model: str) -> Path:
    """Of a model, or of a hub model that is in the cache."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, local_files_only=True))


def tensor_names(model: str) -> list[str] | None:
    """Sorted names of all tensors in the files of a model."""
    folder = _folder(model)
    for index in sorted(folder.glob("*.index.json")):
        return sorted(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    return sorted(_header(folder)) or None


def _header(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names.update(file.keys())
    return names


def write(state: Mapping[str, torch.Tensor], companions: Path, out: Path, code: bool) -> None:
    """Writes the folder `out`, or nothing: everything goes to a temporary name first.

    Args:
        state: tensors by the names of transformers' model class, on the CPU; tied ones once or twice.
        companions: folder of write_companions().
        out: is replaced where it exists.
        code: the companions' own Python code may run.

    Raises:
        RuntimeError: the tensor names would not be those of the source model.
    """
    with _whole(out) as partial:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(companions, trust_remote_code=code)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=code)
        names = json.loads((companions / NAMES).read_text(encoding="utf-8"))
        model.save_pretrained(partial, state_dict=untied(dict(state), model, names), max_shard_size=SHARD)
        for entry in companions.iterdir():
            if entry.name not in (NAMES, "config.json"):
                shutil.copy(entry, partial)
        written = _header(partial)
        if names is not None and written != set(names):
            raise RuntimeError(f"tensors differ from those of the source model: {sorted(written ^ set(names))[:5]}")


def write_adapter(state: Mapping[str, torch.Tensor], flags: Mapping[str, Any], out: Path) -> None:
    """Writes what LoRA trained as a PEFT folder: it loads on top of the model that training started from.

    Args:
        state: tensors by the names of the model in training; all but the adapters are left out.
        flags: dotted flags of the training.
        out: is replaced where it exists.
    """
    adapters = lora.adapters(state)
    layers = {name.rsplit(".lora_", 1)[0].removeprefix(lora.PREFIX) for name in adapters}
    config = LoraConfig(
        base_model_name_or_path=flags["actor.model_name_or_path"],
        task_type=TaskType.CAUSAL_LM,
        r=flags["ds.lora.rank"],
        lora_alpha=flags["ds.lora.alpha"],
        lora_dropout=flags["ds.lora.dropout"],
        target_modules=sorted({layer.rsplit(".", 1)[-1] for layer in layers}),
        inference_mode=True,
    )
    with _whole(out) as partial:
        partial.mkdir()
        config.save_pretrained(partial)
        save_file(adapters, partial / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder under another name, which gets the name `out` once the block has filled it and it is on the disk."""
    partial = out.parent / f".{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    yield partial
    for name in manifest.files_of(partial):
        manifest.sync(partial / name)
    manifest.sync(partial)
    if out.exists():
        shutil.rmtree(out)
    os.rename(partial, out)


def untied(
    state: dict[str, torch.Tensor], model: torch.nn.Module, names: Sequence[str] | None
) -> dict[str, torch.Tensor]:
    """The state with tied tensors as often as the source model has them: once, where it does not tell."""
    for alias, original in getattr(model, "all_tied_weights_keys", {}).items():
        if names is not None and alias in names:
            state[alias] = state[original].clone()
        else:
            state.pop(alias, None)
    return dict(sorted(state.items()))


def from_checkpoint(checkpoint: Path, facts: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a DeepSpeed checkpoint of any ZeRO stage, in the dtype that its run trains in and by the names of
    its model, LoRA's beside the others; `facts` are those of its manifest. A run with train.enable_ema gives their
    moving average, as it does at its end. UserError where it holds code."""
    from deepspeed.utils import zero_to_fp32
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    upstream = zero_to_fp32.parse_optim_states

    def averages(files: list[str], folder: str) -> tuple[int, int, list[list[torch.Tensor]]]:
        stage, ranks, _ = upstream(files, folder)
        return stage, ranks, average.of_checkpoint([checkpoint / rank_file(rank) for rank in range(ranks)])

    pieces = averages if facts["flags"]["train.enable_ema"] else upstream
    silence = io.StringIO()  # it reports every shard
    quiet = contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence)
    of_average = seams.replaced("deepspeed.utils.zero_to_fp32", "parse_optim_states", pieces)
    with quiet[0], quiet[1], pickles.restricted(checkpoint), of_average:
        lazy = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint.parent), checkpoint.name, lazy_mode=True)
    state = {}
    of_adapters = getattr(torch, facts.get("lora_dtype", "float32"))
    for name in list(lazy):
        state[name] = lazy.pop(name).contiguous().to(of_adapters if lora.is_adapter(name) else DTYPE)
    return state


def export(source: Path, out: Path, adapter: bool = False, code: bool = False) -> Path:
    """Makes an export of a checkpoint; returns the checkpoint that was taken.

    Args:
        source: a checkpoint, a folder of them, or a run folder; of several the newest complete one is taken.
        adapter: what LoRA trained, by itself; else it is merged.
        code: the model's own Python code may run, whatever the checkpoint says of it.

    Raises:
        UserError: there is no complete checkpoint, it has no adapter, its model needs code, or `out` exists.
    """
    refuse_export_as_checkpoint(source)
    if out.exists():
        raise UserError(f"{out} exists already: give a folder that does not")
    checkpoint, facts = find(source)
    flags = facts["flags"]
    if not (code or adapter):
        refuse_code(str(checkpoint / COMPANIONS))
    if adapter and not flags["ds.lora.rank"]:
        raise UserError(f"{checkpoint} was not trained with LoRA (ds.lora.rank is 0): leave --adapter out")
    if flags["train.enable_ema"]:
        print("exporting the moving average of the weights (train.enable_ema)")
    state = from_checkpoint(checkpoint, facts)
    wrong = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if wrong:
        raise UserError(f"{checkpoint} holds weights that are not finite: {', '.join(wrong[:5])}")
    if adapter:
        write_adapter(state, flags, out)
    else:
        merged = lora.merge(state, flags["ds.lora.alpha"] / flags["ds.lora.rank"]) if flags["ds.lora.rank"] else state
        write(merged, checkpoint / COMPANIONS, out, code)
    write_card(out, facts, place(checkpoint.name)[0], _run_of(checkpoint, flags))
    return checkpoint


def _run_of(checkpoint: Path, flags: Mapping[str, Any]) -> Path:
    """The run folder of a checkpoint: the one that it lies in, wherever that was moved, or the one that made it."""
    around = checkpoint.parents[2]
    return around if RunFolder(around).read("metrics") else Path(flags["run.dir"])


def find(source: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that `source` names, complete, and its facts. Raises UserError."""
    if is_checkpoint(source):
        try:
            return source, manifest.verify(source)
        except manifest.Damaged as damage:
            raise UserError(f"{source} is damaged: {damage}; export another one") from None
    for folder in (source, source / "_actor", source / "checkpoints" / "_actor"):
        choice = Store(folder).choose()
        for line in choice.passed_over:
            print(f"passed over {line}")
        if choice.checkpoint:
            return choice.checkpoint.path, choice.checkpoint.facts
    raise UserError(f"{source} holds no complete checkpoint: give one, or the folder of a run that saved one")
