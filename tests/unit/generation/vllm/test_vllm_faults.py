"""The vLLM engine against a scripted server that fails: no answer is lost, and none invented.

What a real vLLM answers is tested in tests/vllm.
"""

from __future__ import annotations

import threading

import pytest

from seal_core.engines import GenerateRequest
from seal_core.errors import EngineError
from seal_core.generation.vllm.adapters import AdapterShelf
from tests import scripted_vllm
from tests.waiting import HUNG, eventually
from tests.waves import texts, wave


@pytest.mark.parametrize("fault", ["503", "429", "500", "drop", "lose"])
def test_what_passes_is_tried_again(open_vllm, script, adapters, fault) -> None:
    expected = texts(open_vllm().generate(wave(adapters)))
    for count in script.glob("count-*"):
        count.unlink()
    scripted_vllm.plan(script, completions={3: fault, 4: fault}, load_lora_adapter={1: fault})
    assert texts(open_vllm().generate(wave(adapters))) == expected
    assert int((script / "count-start").read_text()) == 1


@pytest.mark.parametrize("status", ["400", "422"])
def test_a_refused_request_is_its_own_error(open_vllm, script, adapters, status) -> None:
    scripted_vllm.plan(script, completions={5: status})
    answers = open_vllm().generate(wave(adapters))
    (failed,) = [answer for answer in answers if answer.error]
    assert failed.text is None and failed.logprob is None
    assert f"planned {status}" in (failed.error or "")


def test_an_answer_that_is_not_finite_is_an_error(open_vllm, script, adapters) -> None:
    scripted_vllm.plan(script, completions={5: "nan"})
    answers = open_vllm().generate(wave(adapters))
    (failed,) = [answer for answer in answers if answer.error]
    assert (failed.text, failed.logprob) == (None, None)
    assert "not finite" in (failed.error or "")


def test_a_lasting_500_on_a_healthy_server_is_an_error_of_the_request(open_vllm, script) -> None:
    scripted_vllm.plan(script, completions={"all": "500"})
    (answer,) = open_vllm().generate([GenerateRequest("a", "x")])
    assert answer.text is None
    assert "HTTP 500: planned 500" in (answer.error or "")


@pytest.mark.parametrize("fault", ["die", "hang", "abort"])
def test_a_server_that_fails_is_restarted_once(open_vllm, script, adapters, fault) -> None:
    # Only one that hangs is to be past its time.
    limit = 5.0 if fault == "hang" else HUNG
    expected = texts(open_vllm().generate(wave(adapters)))
    (script / "requests.jsonl").unlink()
    for count in script.glob("count-*"):
        count.unlink()
    # The first server's requests hang in both of their attempts.
    times = [f"1/{i}" for i in range(6, 64)] if fault == "hang" else ["1/6"]
    scripted_vllm.plan(script, completions=dict.fromkeys(times, fault))
    assert texts(open_vllm(request_timeout=limit).generate(wave(adapters))) == expected
    assert int((script / "count-start").read_text()) == 2


def test_a_second_death_in_one_call_is_an_engine_error(open_vllm, script, adapters) -> None:
    scripted_vllm.plan(script, completions={"1/6": "die", "2/0": "die"})
    generator = open_vllm()
    with pytest.raises(EngineError, match=r"failed twice(.|\n)*scripted engine was told to die"):
        generator.generate(wave(adapters, 8))
    # The shard is tried again later, with a server that is started anew.
    assert len(texts(generator.generate(wave(adapters)))) == 16


def test_a_server_that_does_not_start_says_why(open_vllm, script) -> None:
    scripted_vllm.plan(script, start={0: "ValueError: no memory for the cache"})
    generator = open_vllm()
    with pytest.raises(EngineError, match=r"did not start(.|\n)*no memory for the cache"):
        generator.generate([GenerateRequest("a", "x")])
    assert len(texts(generator.generate([GenerateRequest("a", "x")]))) == 1


def test_a_call_has_a_time_limit(open_vllm, script) -> None:
    scripted_vllm.plan(script, completions={1: "hang"})
    generator = open_vllm()
    requests = [GenerateRequest("a", "x")]
    assert len(texts(generator.generate(requests))) == 1
    generator._timeout = 3.0  # Of a server that is there: nobody knows how long a start takes.
    with pytest.raises(EngineError, match=r"ended after 3 s"):
        generator.generate(requests)


def test_closing_ends_a_call(open_vllm, script) -> None:
    scripted_vllm.plan(script, completions={0: "hang"})
    generator = open_vllm()

    def close() -> None:
        assert eventually(lambda: scripted_vllm.requests(script))
        generator.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(EngineError, match=r"closed|failed"):
        generator.generate([GenerateRequest("a", "x")])
    closer.join()
    with pytest.raises(EngineError, match="closed"):
        generator.generate([GenerateRequest("a", "x")])


def test_a_running_server_that_dies_is_an_engine_error(open_vllm, running, script) -> None:
    url = running()
    generator = open_vllm(servers=(url,))
    scripted_vllm.plan(script, completions={0: "die"})
    with pytest.raises(EngineError, match=url):
        generator.generate([GenerateRequest("a", "x")])
    scripted_vllm.plan(script)
    running(int(url.rpartition(":")[2]))
    assert texts(generator.generate([GenerateRequest("a", "x")]))[0] is not None


def test_a_running_server_that_lost_its_adapters_gets_them_again(
    open_vllm, running, script, adapters
) -> None:
    generator = open_vllm(servers=(running(),))
    expected = texts(generator.generate(wave(adapters)))
    for count in script.glob("count-*"):
        count.unlink()
    scripted_vllm.plan(script, completions={7: "forget"})
    results: list[list[str | None]] = []
    threads = [
        threading.Thread(target=lambda: results.append(texts(generator.generate(wave(adapters)))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3


def test_a_restarted_server_has_another_life(open_vllm, running, script, adapters) -> None:
    first, second = running(), running()
    generator = open_vllm(servers=(first, second))
    requests = [GenerateRequest("a", "x", (adapters["small"],))]
    lives = [(served.url, served.life) for served in generator.servers()]
    assert [url for url, _ in lives] == [first, second]
    generator.generate(requests)
    assert [(served.url, served.life) for served in generator.servers()] == lives
    scripted_vllm.plan(script, completions={"all": "die"})
    with pytest.raises(EngineError, match="failed"):
        generator.servers()[1].generator.generate(requests)
    scripted_vllm.plan(script)
    running(int(second.rpartition(":")[2]))
    again = [(served.url, served.life) for served in generator.servers()]
    assert again[0] == lives[0] and again[1] == (second, lives[1][1] + 1)


def test_a_server_is_asked_alone(open_vllm, running, script, adapters) -> None:
    generator = open_vllm(servers=(running(), running()))
    for served in generator.servers():
        before = len(scripted_vllm.requests(script))
        answers = served.generator.generate([GenerateRequest(str(i), "x") for i in range(8)])
        assert all(answer.error is None for answer in answers)
        asked = [r for r in scripted_vllm.requests(script)[before:] if r["path"] == "completions"]
        assert len({r["port"] for r in asked}) == 1 and len(asked) == 8
        assert {f"http://127.0.0.1:{r['port']}" for r in asked} == {served.url}


def test_nothing_stays_on_a_running_server(open_vllm, running, script) -> None:
    generator = open_vllm(servers=(running(),))
    assert generator.servers()[0].life == 1
    generator.close()
    last = scripted_vllm.requests(script)[-1]
    assert last["path"] == "unload_lora_adapter" and last["loaded"] == [last["body"]["lora_name"]]


def test_a_server_of_our_own_has_one_life(open_vllm, script, monkeypatch) -> None:
    generator = open_vllm()
    monkeypatch.delattr(AdapterShelf, "_write")  # Nothing is written to ask for it.
    assert [(served.url, served.life) for served in generator.servers()] == [("", 0)]
    assert scripted_vllm.requests(script) == []


def test_an_adapter_that_the_server_refuses_is_an_error_of_its_requests(
    open_vllm, script, adapters
) -> None:
    scripted_vllm.plan(script, load_lora_adapter={1: "400"})
    answers = open_vllm(adapter_slots=1).generate(wave(adapters))
    failed = [answer for answer in answers if answer.error]
    assert len(failed) == 4
    assert all("refused the adapter: HTTP 400" in (answer.error or "") for answer in failed)
