import pytest

from pipelines.errors import UserError
from pipelines.runners import runner_flags


def test_the_engine_is_pinned_and_the_user_overrides_it():
    quiet = "--default_sdk_harness_log_level=ERROR"
    assert runner_flags([]) == ["--runner=FnApiRunner", "--direct_running_mode=in_memory", quiet]
    flags = runner_flags(["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    assert flags == ["--runner=FnApiRunner", quiet, "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert runner_flags(["--runner=FlinkRunner"])[-1] == "--runner=FlinkRunner"


def test_what_would_answer_wrongly_is_refused():
    with pytest.raises(UserError, match="loses outputs"):
        runner_flags(["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"])
    with pytest.raises(UserError, match="not a Beam option"):
        runner_flags(["workers=2"])
