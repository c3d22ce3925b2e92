"""Ways over remembered places: a walker with walls around it, whose critics see no farther than the next wall."""

import numpy as np
import pytest

from ami_agent.agent import AgentConfig, AmiAgent
from ami_agent.brain import Brain, BrainConfig
from ami_agent.environment import Environment
from ami_agent.errors import UsageError
from ami_agent.evaluation.place_map import place_map
from ami_agent.learning.learner import Learner
from ami_agent.learning.student import Student, StudyConfig
from ami_agent.memory.landmarks import Landmarks, directions
from ami_agent.memory.replay import Replay
from ami_agent.memory.wayfinder import WayConfig, Wayfinder
from ami_agent.perception.encoder import EncoderConfig
from ami_agent.protocols import Episode, Spec

STRIDE = 0.1
STUDY = StudyConfig(batch=8)
INNER = [((-1, -1), (1, -1)), ((1, -1), (1, 1)), ((1, 1), (-1, 1))]
OUTER = [((-1, -1.5), (1.5, -1.5)), ((1.5, -1.5), (1.5, 1.5)), ((1.5, 1.5), (-1, 1.5))]
U = [*INNER, *OUTER, ((-1, -1), (-1, -1.5)), ((-1, 1), (-1, 1.5))]  # a pocket with thick walls, open to the left


def crosses(start, end, walls):
    """(n, 2), (n, 2) -> (n,) bool: whether the straight way meets a wall."""

    def side(a, b, c):
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    met = np.zeros(len(start), bool)
    for one, two in walls:
        a, b = np.float64(one), np.float64(two)
        apart = side(a, b, start) * side(a, b, end) < 0
        met |= apart & (side(start, end, a) * side(start, end, b) < 0)
    return met


class Walker:
    """Goes straight towards where it is sent; walls stop it."""

    def __init__(self, walls, start, doubt=1.0, believed=None):
        self.walls, self.here, self.asked = walls, np.float64(start), 0
        self.believed = walls if believed is None else believed  # walls that it takes to be there
        self.doubt = doubt  # what it believes a way through a wall to cost, times its length

    def costs(self, senses, goals):
        self.asked += len(goals)
        length = np.linalg.norm(goals - senses["achieved_goal"], axis=1)
        blocked = crosses(senses["achieved_goal"].astype(float), goals.astype(float), self.believed)
        return np.maximum(7.0 * length * np.where(blocked, self.doubt, 1.0), 1e-3)

    def see(self, goal):
        return {"achieved_goal": np.float32(self.here), "desired_goal": np.float32(goal)}

    def go(self, target):
        step = target - self.here
        after = self.here + step * min(1.0, STRIDE / max(np.linalg.norm(step), 1e-9))
        if not crosses(self.here[None], after[None], self.walls)[0]:
            self.here = after

    def walk(self, guide, goal, steps=400):
        """Decisions until it is at the goal, None if it never is."""
        for t in range(steps):
            if np.linalg.norm(self.here - goal) < 0.2:
                return t
            self.go(guide.lead(self.see(goal), np.float64(goal)) if guide else np.float64(goal))
        return None


def place(walker):
    return Landmarks(walker.costs, 2, 4 * STRIDE, 12 * STRIDE)


def test_straight_on_where_nothing_is_between():
    walker = Walker([], (0, 0))
    assert walker.walk(Wayfinder(place(walker), 20), (3.0, 0.5)) < 40


def test_out_of_a_pocket():
    goal = (2.2, 0.0)
    assert Walker(U, (0.05, 0.02)).walk(None, goal) is None
    walker = Walker(U, (0.05, 0.02), 5.0)
    assert walker.walk(Wayfinder(place(walker), 20), goal) is not None


def test_what_was_seen_of_a_place_makes_the_next_ways_shorter():
    walker = Walker(U, (0.05, 0.02), 5.0)
    landmarks, lengths = place(walker), []
    for _ in range(6):
        walker.here = np.array([0.05, 0.02])
        lengths.append(walker.walk(Wayfinder(landmarks, 20), (2.2, 0.0)))
    assert max(lengths[1:]) < 75 < lengths[0]  # round the corners it is about 60 strides


def test_a_way_that_the_critics_doubt_is_tried_where_there_is_no_other():
    corners = [(0.2, -1.8), (3.2, -1.8), (3.2, 0.8), (0.2, 0.8)]
    room, door = list(zip(corners, corners[1:] + corners[:1], strict=True)), [((1, -2), (1, 0.3)), ((1, 0.7), (1, 1))]
    start, goal = (0.5, -1.5), (3.0, -1.5)
    walker = Walker([*room, *door], start, 2.0, [*room, ((1, -2), (1, 1))])
    landmarks = place(walker)
    for lived in ([start, (0.5, 0.5)], [(1.5, 0.5), goal]):
        steps = np.linspace(*lived, 21).astype(np.float32)
        landmarks.relive({"achieved_goal": steps, "desired_goal": steps})
    left = landmarks.places[:, 0] < 1
    assert all(left[start] == left[end] for start, end in landmarks.ways)  # those that are believed
    assert walker.walk(Wayfinder(landmarks, 20), goal) < 100  # through the door it is about 50 strides


def test_ways_back_are_believed_where_one_has_gone():
    walker = Walker([], (0, 0))
    landmarks = place(walker)
    guide = Wayfinder(landmarks, 20)
    walker.walk(guide, (2.0, 0.0))
    ways = landmarks.ways
    assert ways and all((end, start) in ways for start, end in ways)
    gaps = [np.linalg.norm(landmarks.places[i] - landmarks.places[j]) for i, j in ways if i != j]
    assert min(gaps) > landmarks.spacing - 1e-6 and max(gaps) <= landmarks.reach + landmarks.spacing


def test_a_goal_that_is_near_but_not_got_to_is_given_up_for_another_way():
    walker = Walker([((0.25, -9), (0.25, 9))], (0, 0), 1.0)  # critics that see no wall
    landmarks = place(walker)
    guide, goal = Wayfinder(landmarks, 20), np.array([0.35, 0.0])
    sent = []
    for _ in range(50):
        sent.append(guide.lead(walker.see(goal), goal))
        walker.go(sent[-1])
    there = next(i for i, target in enumerate(sent) if not np.allclose(target, goal))
    assert 20 <= there <= 25 and len(landmarks.failures) > 0  # the first decisions get nearer


def test_to_stay_at_a_goal_is_no_failure():
    walker = Walker([], (0, 0))
    landmarks = place(walker)
    guide, goal = Wayfinder(landmarks, 5), np.array([0.9, 0.0])
    for _ in range(60):
        walker.go(guide.lead(walker.see(goal), goal))
    assert np.linalg.norm(walker.here - goal) < STRIDE and not len(landmarks.failures)


def test_a_way_that_was_gone_after_all_did_not_fail():
    walker = Walker([], (0, 0))
    landmarks = place(walker)
    one = landmarks.see(walker.see((5, 5)))
    walker.here = np.array([1.0, 0.0])
    two = landmarks.see(walker.see((5, 5)))
    before = dict(landmarks.ways)
    for _ in range(2):
        landmarks.failed(one, landmarks.places[two])
    assert len(landmarks.failures) == 1 and (one, two) not in landmarks.ways
    landmarks.gone(one, two)
    assert len(landmarks.failures) == 0 and landmarks.ways[one, two] == pytest.approx(before[one, two], rel=0.01)


def test_a_way_that_failed_is_not_tried_again_from_beside_the_landmark():
    """A failure like it, seen from the landmark, does not cover where the walker stands: its own must be kept, too."""
    walker = Walker([], (0, 0))
    landmarks, goal = place(walker), np.array([3.0, 0.0])
    at = landmarks.see(walker.see(goal))
    landmarks.failures = np.array([[-0.55, 0.0, 1.2, 0.0]])  # half a reach from the landmark, and more from beside it
    walker.here = np.array([0.1, 0.0])
    ways = [landmarks.choose(walker.see(goal), at, goal)]
    landmarks.failed(at, ways[0])
    ways.append(landmarks.choose(walker.see(goal), at, goal))
    assert not np.allclose(*ways)


CORRIDOR = [((-0.2, -0.2), (-0.2, 0.2)), ((-0.2, 0.2), (3.0, 0.2)), ((-0.2, -0.2), (3.0, -0.2))]  # open to the right


def test_what_failed_for_a_while_is_tried_again_where_nothing_else_is_left():
    walker = Walker(CORRIDOR, (0, 0), 5.0)
    landmarks, goal = place(walker), np.array([-1.0, 0.0])
    guide = Wayfinder(landmarks, 5)
    for _ in range(60):  # something holds it, whatever way it tries
        guide.lead(walker.see(goal), goal)
    assert len(landmarks.failures)
    assert walker.walk(guide, goal) is not None


def test_a_way_that_failed_after_it_was_gone_is_not_believed_more_by_who_remembers_both():
    walker = Walker([], (0, 0))
    landmarks = place(walker)
    moments = {
        "achieved_goal": np.linspace([0.0, 0.0], [1.0, 0.0], 11, dtype=np.float32),
        "desired_goal": np.zeros((11, 2), np.float32),
    }
    landmarks.relive(moments)
    one, two = next(way for way in landmarks._gone if way[0] < way[1])
    before = landmarks._gone[one, two]
    landmarks.failed(one, landmarks.places[two])
    again = place(walker)
    again.failures = landmarks.failures.copy()
    again.relive(moments)
    assert len(again.failures) == 1 and again._gone[one, two] == landmarks._gone[one, two] > before


def test_a_leap_is_no_way():
    walker = Walker([], (0, 0))
    landmarks = place(walker)
    one = landmarks.see(walker.see((5, 5)))
    walker.here = np.array([9.0, 9.0])
    landmarks.gone(one, landmarks.see(walker.see((5, 5))))
    assert not landmarks.ways


def test_where_no_way_is_seen_the_goal_itself_is_tried():
    walker = Walker([], (0, 0))
    landmarks, goal = place(walker), np.array([5.0, 5.0])
    at = landmarks.see(walker.see(goal))
    for way in landmarks._rings()[at]:
        assert (landmarks.choose(walker.see(goal), at, goal) != goal).any()
        landmarks.failed(at, way)
    assert (landmarks.choose(walker.see(goal), at, goal) == goal).all()


@pytest.mark.parametrize(("size", "ways"), [(1, 2), (2, 8), (3, 26), (5, 10)])
def test_directions_are_unit_vectors_all_around(size, ways):
    around = directions(size)
    assert around.shape == (ways, size) and np.allclose(np.linalg.norm(around, axis=1), 1)
    assert np.allclose(around.sum(0), 0)


def test_a_place_without_bounds_is_remembered_where_it_was_seen_last():
    """A walker on a long way east: what is kept is the end of it, with ways between what is kept alone."""
    walker = Walker([], (0, 0))
    landmarks = Landmarks(walker.costs, 2, 4 * STRIDE, 12 * STRIDE, most=16)
    guide = Wayfinder(landmarks, 20)
    for east in np.arange(1.0, 21.0):
        assert walker.walk(guide, (east, 0.0)) is not None
    kept = np.sort(landmarks.places[:, 0])
    assert len(kept) == 16 and kept[-1] > 19 and kept[0] > 10
    lengths = [np.linalg.norm(np.subtract(*landmarks.places[list(way)])) for way in landmarks.ways]
    assert len(lengths) > 30 and max(lengths) <= landmarks.reach + landmarks.spacing
    for north in range(20):
        landmarks.failed(int(landmarks.places[:, 0].argmax()), np.float64([25, north]))
    assert len(landmarks.failures) == 16 and landmarks.failures[-1, 3] == 19
    assert walker.walk(guide, (0.0, 0.0)) is not None and len(landmarks) == 16


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(UsageError, match="more than ways.spacing"):
        WayConfig(spacing=5, reach=5)
    with pytest.raises(UsageError, match="landmarks"):
        WayConfig(landmarks=1)


def test_the_map_shows_landmarks_ways_and_failures():
    walker = Walker(U, (0.05, 0.02))
    landmarks = place(walker)
    walker.walk(Wayfinder(landmarks, 20), (2.2, 0.0), 60)
    drawn = place_map(landmarks.places, landmarks.ways, landmarks.failures)
    assert drawn.count("<circle") == len(landmarks) and drawn.count('class="failed"') == len(landmarks.failures) > 0
    pairs = {frozenset(way) for way in landmarks.ways}
    assert drawn.count('class="way"') == len(pairs)
    assert place_map(np.zeros((3, 7)), [], np.zeros((0, 14))) == "" == place_map(np.zeros((0, 2)), [], np.zeros((0, 4)))
    assert "<circle" in place_map(np.zeros((1, 3)), [], np.zeros((0, 6)))


def test_ways_are_left_out_where_they_cannot_help():
    spec = Environment("ami/MazeNav-v0").spec
    brain = Brain(spec, BrainConfig(EncoderConfig(latent=16, width=32)))
    assert AmiAgent(brain).ways is None  # it never moved
    brain.stride = 0.1
    assert AmiAgent(brain).ways is None  # its values are no costs
    brain.model.level.fill_(-1.0)
    assert AmiAgent(brain).ways is not None
    assert AmiAgent(brain, AgentConfig(ways=WayConfig(use=False))).ways is None


def test_a_stride_is_learned_where_what_is_achieved_is_the_agents_own_place():
    def student(steps):
        spec = Spec("x", {"achieved_goal": (2,), "desired_goal": (2,)}, 2, True, 50)
        brain = Brain(spec, BrainConfig(EncoderConfig(latent=16, width=32)))
        student = Student(None, Learner(brain), Replay(999), STUDY)
        places = np.cumsum(np.concatenate([[0.0], steps]))[:, None] * np.float32([[1, 0]])
        senses = {"achieved_goal": np.float32(places), "desired_goal": np.float32(places)}
        action = np.zeros((len(steps), 2), np.float32)
        student.take(1, Episode("x", senses, action, action[:, 0], False, True, None))
        student.seed(0)
        student.study(0)
        return brain.stride

    assert student(np.full(50, 0.1)) == pytest.approx(0.1, rel=1e-4)
    assert student(np.where(np.arange(50) % 5, 0.0, 0.1)) == 0.0  # a thing that it moves now and then
