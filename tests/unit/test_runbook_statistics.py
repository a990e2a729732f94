"""What Envoy shows to Prometheus, and what it means."""

import pytest

from runbook.statistics import Count, parse
from runbook.traffic import HOST

INFINITE = float("inf")


def requests(code: int, value: float, cluster: str, label: str = "cluster_name") -> str:
    return f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="{code}",{label}="{cluster}"}} {value}'


def test_requests_are_counted_for_each_colour_and_class() -> None:
    text = "\n".join(
        [
            "# TYPE envoy_cluster_upstream_rq_xx counter",
            requests(2, 90, f"outbound|80|green|{HOST}"),
            requests(4, 2, f"outbound|80|green|{HOST}"),
            requests(5, 3, f"outbound|80|green|{HOST}"),
            requests(2, 7, f"outbound|80|blue|{HOST}"),
        ]
    )
    found = parse(text).colours
    assert (found["green"].requests, found["green"].failed) == (95, 3)
    assert (found["blue"].requests, found["blue"].failed) == (7, 0)


def test_istios_own_names_are_known_and_single_codes_not_counted_twice() -> None:
    cluster = f'cluster_name="outbound|80|green|{HOST}"'
    found = parse(
        f'envoy_cluster_upstream_rq{{response_code_class="2xx",{cluster}}} 90\n'
        f'envoy_cluster_upstream_rq{{response_code_class="5xx",{cluster}}} 10\n'
        f'envoy_cluster_upstream_rq{{response_code="200",{cluster}}} 90\n'
        f"envoy_cluster_upstream_rq_total{{{cluster}}} 101\n"
    ).colours["green"]
    assert (found.requests, found.failed) == (100, 10)


@pytest.mark.parametrize("cluster", [f"outbound|8080|green|{HOST};", f"outbound|80|green|{HOST}"])
@pytest.mark.parametrize("label", ["cluster_name", "envoy_cluster_name"])
def test_a_cluster_is_known_by_either_label_and_spelling(cluster: str, label: str) -> None:
    assert parse(requests(2, 5, cluster, label) + "\n").colours["green"].requests == 5


@pytest.mark.parametrize(
    "cluster", [f"outbound|80||{HOST}", f"outbound|80|red|{HOST}", "xds-grpc", "outbound|80|green|x"]
)
def test_other_clusters_do_not_count(cluster: str) -> None:
    found = parse(requests(2, 5, cluster)).colours
    assert [count.requests for count in found.values()] == [0, 0]


@pytest.mark.parametrize(("shown", "connected"), [("1", True), ("0", False)])
def test_a_gateway_says_whether_it_hears_of_istiod(shown: str, connected: bool) -> None:
    assert parse(f"envoy_control_plane_connected_state{{}} {shown}").connected is connected


def test_one_that_says_nothing_of_istiod_does_not_hear_of_it() -> None:
    assert not parse("envoy_server_live{} 1\n").connected


def test_requests_that_are_under_way_are_known_for_each_colour_and_not_counted_as_answered() -> None:
    found = parse(
        f'envoy_cluster_upstream_rq_active{{cluster_name="outbound|80|green|{HOST}"}} 4\n'
        f'envoy_cluster_upstream_rq_active{{cluster_name="outbound|8080|green|{HOST};"}} 3\n'
        f'envoy_cluster_upstream_rq_active{{cluster_name="xds-grpc"}} 9\n'
    )
    assert found.active == {"blue": 0, "green": 7}
    assert found.colours["green"] == Count()


def test_buckets_become_a_percentile_between_their_bounds() -> None:
    cluster = f'cluster_name="outbound|80|green|{HOST}"'
    found = parse(
        f'envoy_cluster_upstream_rq_time_bucket{{{cluster},le="100"}} 90\n'
        f'envoy_cluster_upstream_rq_time_bucket{{{cluster},le="200"}} 100\n'
        f'envoy_cluster_upstream_rq_time_bucket{{{cluster},le="+Inf"}} 100\n'
        f"envoy_cluster_upstream_rq_time_sum{{{cluster}}} 7\n"
    ).colours["green"]
    assert found.percentile(0.95) == pytest.approx(150)
    assert found.percentile(0.45) == pytest.approx(50)
    assert found.requests == 0


def test_of_what_took_longest_the_last_bound_is_known() -> None:
    assert Count(buckets={100.0: 1, INFINITE: 100}).percentile(0.95) == 100


def test_without_requests_there_is_no_percentile_and_no_error() -> None:
    assert (Count().percentile(0.95), Count().error_rate) == (None, 0)


def test_what_came_since_an_earlier_count_is_the_difference() -> None:
    before = Count(requests=10, failed=1, buckets={1.0: 5, INFINITE: 10})
    now = Count(requests=15, failed=3, buckets={1.0: 6, INFINITE: 14})
    assert now.since(before) == Count(requests=5, failed=2, buckets={1.0: 1, INFINITE: 4})


@pytest.mark.parametrize(
    "now", [Count(requests=4, buckets={1.0: 20}), Count(requests=40, buckets={1.0: 2}), Count(requests=40)]
)
def test_counters_that_went_back_have_started_anew(now: Count) -> None:
    assert now.since(Count(requests=10, buckets={1.0: 5})) == now


def test_counts_add_up_where_their_buckets_differ() -> None:
    both = Count(requests=1, buckets={1.0: 1}) + Count(requests=2, failed=1, buckets={2.0: 2})
    assert both == Count(requests=3, failed=1, buckets={1.0: 1, 2.0: 2})
    assert both.error_rate == pytest.approx(1 / 3)
