"""What a type checker and an editor know of a user's script (D10): where an error is expected, its
absence is one. tests/project/test_types.py reads it; it is never run.
"""
# pyright: reportCallIssue=true, reportUnnecessaryTypeIgnoreComment=true

from typing import assert_type

import flaxmodels as fm
from flaxmodels import params as fp


def right(folder: str) -> None:
    model, params = fm.LlamaForCausalLM.from_pretrained(folder, dtype="bfloat16", num_labels=3)
    assert_type(model, fm.LlamaForCausalLM)
    assert_type(params, fp.Params)
    assert_type(fm.LlamaForCausalLM.from_config(model.config, remat="full"), fm.LlamaForCausalLM)
    larger, params = model.resize_token_embeddings(params, 10)
    assert_type(larger, fm.LlamaForCausalLM)
    pruned, params = model.prune_heads(params, {0: [1]})
    assert_type(pruned, fm.LlamaForCausalLM)
    assert_type(model.save_pretrained(params, folder, max_shard_size="1GB"), None)
    print(model.save_pretrained(params, folder, push_to_hub=True, repo_id="org/name").oid)
    print(model.push_to_hub(params, "org/name", create_pr=True, license="mit").pr_url)
    model.create_model_card(folder, "org/name", params=params, language="en").read_text()
    auto = fm.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert_type(auto[0], fm.PretrainedModel)
    assert_type(auto[1], fp.Params)
    assert_type(auto[2], fm.LoadingInfo)
    assert_type(fm.FlaxBertForMaskedLM(fm.BertConfig(hidden_size=8)), fm.BertForMaskedLM)


def wrong(folder: str) -> None:
    model, params = fm.LlamaForCausalLM.from_pretrained(folder)
    model.save_pretrained(params, folder, private=True)  # pyright: ignore[reportCallIssue]
    model.push_to_hub(params, "org/name", licence="mit")  # pyright: ignore[reportCallIssue]
    model.create_model_card(folder, "name", tag="a")  # pyright: ignore[reportCallIssue]
    fm.AutoConfig.from_pretrained(folder, revison="main")  # pyright: ignore[reportCallIssue]
    _ = fm.NotAThing  # pyright: ignore[reportAttributeAccessIssue]
    fm.LlamaForCausalLM.from_pretrained(folder, dtpye="bfloat16")  # pyright: ignore[reportCallIssue]
    fm.AutoModel.from_pretrained(folder, scan_layer=True)  # pyright: ignore[reportCallIssue]
    fm.load_plan(folder, revison="main")  # pyright: ignore[reportCallIssue]
    fm.LlamaForCausalLM(fm.LlamaConfig(), scan_layer=True)  # pyright: ignore[reportCallIssue]
    fm.LlamaConfig(hiden_size=3)  # pyright: ignore[reportCallIssue]
