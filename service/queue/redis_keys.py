"""Names of every Redis key, in one place, under one prefix."""

from __future__ import annotations

from dataclasses import dataclass

from service.contracts import JobClass

GROUP = "workers"

# Names that cross Redis and that earlier releases read and write, where the program calls the thing otherwise. The
# scripts write them out.
REPLY_TO_FIELD = "home"
"""of a job's hash: the `reply_to` of the api process that waits for it"""
CACHE_KEY_FIELD = "same"
"""of a job's hash: its entry in the result cache"""
CACHE_KEY_ELSEWHERE_FIELD = "same_elsewhere"
"""of a job's hash: the same, where the entry is in another partition, which no script reaches from here"""
FAILURE_FIELD = "fault"
"""of a job's hash: what went wrong when its clips were last given back"""
QUEUED_FIELD = "queued"
"""of a job's hash in stages: how many of its clips are queued, until all are"""
VIEWS_FIELD = "views"
MASKED_FIRST_FIELD = "masked_first"
MASKED_FIELD = "masked"
"""of a job's hash where clips with frames left out are scored too: how many whole ones all of its clips are made of"""
HOLDS_FIELD = "holds"
"""of a job's hash: the caller whose share it counts towards, and with how many clips of which size and model"""
MORE_COMING_FIELD = "followed"
"""of a clip's stream entry: 1 where clips of other uploads come soon"""
LETTER_CREATED_FIELD = "buried_at"
"""of a dead letter: when it was written, in Unix seconds"""


@dataclass(frozen=True)
class RedisKeys:
    """Key names of one installation."""

    prefix: str

    def clips(self, route: str, job_class: JobClass) -> str:
        """Stream of the clips that wait on a route (`service.queue.clip_routes`) in one class."""
        return f"{self.prefix}:clips:{route}:{job_class}"

    def looked_through(self, route: str, job_class: JobClass) -> str:
        """How far workers have looked for lost entries in a long stream."""
        return f"{self.prefix}:looked-through:{route}:{job_class}"

    def leaders(self, route: str) -> str:
        """Sorted set of the workers that wait at the streams of a route, scored by when that lapses."""
        return f"{self.prefix}:leaders:{route}"

    def followers(self, route: str) -> str:
        """The same of those that wait until one of the leaders has work."""
        return f"{self.prefix}:followers:{route}"

    def promoted(self, worker: str) -> str:
        """List where a worker that follows waits: an element says that it may lead."""
        return f"{self.prefix}:promoted:{worker}"

    def payload(self, job_id: str, clip: int | str) -> str:
        """Raw uint8 bytes of one clip; with an empty `clip`, what the payload keys of the job begin with."""
        return f"{self.prefix}:clip:{job_id}:{clip}"

    def job(self, job_id: str) -> str:
        """Hash: record, counts and state of a job."""
        return f"{self.prefix}:job:{job_id}"

    def scores(self, job_id: str) -> str:
        """Hash: clip number to encoded ClipScores; its length is the number of distinct clips scored."""
        return f"{self.prefix}:scores:{job_id}"

    def outcome(self, job_id: str) -> str:
        """Outcome of a finished job: written once, by the process that finishes it first."""
        return f"{self.prefix}:outcome:{job_id}"

    def events(self, job_id: str) -> str:
        """Stream: the events of a job, for its followers."""
        return f"{self.prefix}:events:{job_id}"

    def live(self, stream_id: str) -> str:
        """Hash: a live stream, who holds it, and how far it is."""
        return f"{self.prefix}:live:{stream_id}"

    def live_events(self, stream_id: str) -> str:
        """Stream: what was told of a live stream."""
        return f"{self.prefix}:live-events:{stream_id}"

    @property
    def pulled(self) -> str:
        """Sorted set of the live streams that the service fetches itself, scored by when they were begun."""
        return f"{self.prefix}:live-pulled"

    def jobs(self, owner: str) -> str:
        """Sorted set of an owner's jobs, all with score 0, by the text that `service.queue.job_list` gives them."""
        return f"{self.prefix}:jobs:{owner}"

    def webhook(self, job_id: str) -> str:
        """Hash: the webhook of a job that has ended, until it is delivered or given up."""
        return f"{self.prefix}:webhook:{job_id}"

    def dead_job(self, job_id: str) -> str:
        """Hash: record of a job in the dead letters, from which it can be replayed."""
        return f"{self.prefix}:dead:{job_id}"

    def idempotency(self, digest: str) -> str:
        """The claim or the job of an Idempotency-Key, by the SHA-256 of the key."""
        return f"{self.prefix}:idempotency:{digest}"

    def result_cache(self, digest: str) -> str:
        """Id of the job that has scored an upload, by the SHA-256 of everything that decides its result."""
        return f"{self.prefix}:result-cache:{digest}"

    def worker(self, worker: str) -> str:
        """WorkerStatus of a live worker; lives as long as its heartbeat."""
        return f"{self.workers}:{worker}"

    def model(self, name: str, version: str) -> str:
        """ModelSpec of a served model version; lives as long as its worker's heartbeat."""
        return f"{self.models}:{name}:{version}"

    def route(self, route: str) -> str:
        """ModelSpec that is served on a route, empty for a model's name; lives as long as its worker's heartbeat."""
        return f"{self.routes}:{route}"

    @property
    def routes(self) -> str:
        """Sorted set, all with score 0: the routes whose streams may exist."""
        return f"{self.prefix}:routes"

    @property
    def models(self) -> str:
        """Sorted set of `name:version`, scored by the time until which the announcement holds."""
        return f"{self.prefix}:models"

    @property
    def workers(self) -> str:
        """Sorted set of live workers of all releases, scored by the time until which their heartbeat holds."""
        return f"{self.prefix}:workers"

    @property
    def fleet(self) -> str:
        """The same set without the workers of the release before."""
        return f"{self.prefix}:fleet"

    @property
    def fleet_shares(self) -> str:
        """Hash: what each worker of the fleet adds to the sums."""
        return f"{self.fleet}:shares"

    @property
    def fleet_sums(self) -> str:
        """Hash: the sums over the fleet, by the names that `service.queue.fleet` gives them."""
        return f"{self.fleet}:sums"

    @property
    def fleet_retries(self) -> str:
        """Hash: by model or route, the Unix time at which an engine that is away is tried again."""
        return f"{self.fleet}:retries"

    def turn(self, chore: str) -> str:
        """The process whose turn a chore is (`service.queue.turns`)."""
        return f"{self.prefix}:turn:{chore}"

    @property
    def deadlines(self) -> str:
        """Sorted set of the unfinished jobs, scored by their deadlines."""
        return f"{self.prefix}:deadlines"

    @property
    def reservations(self) -> str:
        """Sorted set of the capacity reserved for uploads that are not accepted yet, scored by when it lapses."""
        return f"{self.prefix}:reservations"

    @property
    def reservation_counts(self) -> str:
        """Hash: how much is reserved, of all, of each model and of each caller."""
        return f"{self.prefix}:reservations:counts"

    @property
    def reserved(self) -> str:
        """The same set for processes of the release before, which add to it and remove from it."""
        return f"{self.prefix}:reserved"

    def held(self, caller: str) -> str:
        """Sorted set of the jobs that a caller, named by a digest, may still have in flight, scored by deadline."""
        return f"{self.reserved}:{caller}"

    def held_sums(self, caller: str) -> str:
        """Hash: clips and bytes of a caller's jobs, for a moment after they were counted, where the jobs are many."""
        return f"{self.held(caller)}:sums"

    @property
    def quotas(self) -> str:
        """What the keys of quotas begin with: counters of a caller's windows, which the `limits` library names."""
        return f"{self.prefix}:quota"

    @property
    def webhooks(self) -> str:
        """Sorted set of the jobs whose webhook is to be delivered, scored by when to try next."""
        return f"{self.prefix}:webhooks"

    @property
    def dead(self) -> str:
        """Stream of dead letters: one entry per job that was given up, newest last."""
        return f"{self.prefix}:dead"

    def batch(self, batch_id: str) -> str:
        """Hash: record, counts and times of a batch."""
        return f"{self.prefix}:batch:{batch_id}"

    def batch_lines(self, batch_id: str) -> str:
        """Hash: number to line of the batch's manifest."""
        return f"{self.prefix}:batch-lines:{batch_id}"

    def batch_outcomes(self, batch_id: str) -> str:
        """Hash: number to outcome of each line that has ended, written once."""
        return f"{self.prefix}:batch-outcomes:{batch_id}"

    def batch_running(self, batch_id: str) -> str:
        """Hash: number to job of each line that is being worked on; an empty job until it is accepted."""
        return f"{self.prefix}:batch-running:{batch_id}"

    def batch_ended(self, batch_id: str) -> str:
        """Sorted set of the numbers of the lines that have ended, in the order in which they did."""
        return f"{self.prefix}:batch-ended:{batch_id}"

    @property
    def batch_webhooks(self) -> str:
        """Sorted set of the batches whose webhook is to be delivered, scored by when to try next."""
        return f"{self.prefix}:batch-webhooks"

    def batch_webhook(self, batch_id: str) -> str:
        """Hash: the webhook of a batch that has ended, until it is delivered or given up."""
        return f"{self.prefix}:batch-webhook:{batch_id}"

    @property
    def stream_webhooks(self) -> str:
        """Sorted set of the live streams with events for their webhook, scored by when to try next."""
        return f"{self.prefix}:live-webhooks"

    def stream_webhook(self, stream_id: str) -> str:
        """Hash: the webhook of a live stream, and the event up to which it was delivered."""
        return f"{self.prefix}:live-webhook:{stream_id}"

    @property
    def batches(self) -> str:
        """Sorted set of the open batches, scored by when they expire."""
        return f"{self.prefix}:batches"

    def open_batches(self, owner: str) -> str:
        """The same of one owner."""
        return f"{self.batches}:open:{owner}"

    def batches_of(self, owner: str) -> str:
        """Sorted set of an owner's batches, with those that have ended."""
        return f"{self.batches}:of:{owner}"

    @property
    def partitions(self) -> str:
        """Text: the number of partitions of an installation that has several, written by its first process."""
        return f"{self.prefix}:partitions"

    @property
    def finished(self) -> str:
        """Pub/sub channel of processes of the release before: ids of finished jobs."""
        return f"{self.prefix}:finished"

    def news(self, job_id: str) -> str:
        """Pub/sub channel of one job: `scored` when clips were scored, `ended` when it has ended."""
        return f"{self.prefix}:news:{job_id}"

    @property
    def write_probe(self) -> str:
        """Empty string, written to learn whether Redis takes writes."""
        return f"{self.prefix}:write-probe"

    def reply_channel(self, reply_to: str) -> str:
        """Pub/sub channel of one api process: ids and outcomes of the jobs that it waits for; empty for the prefix."""
        # The word of earlier releases, whose workers publish on it.
        return f"{self.prefix}:answers:{reply_to}"

    def ended_channel(self, reply_to: str) -> str:
        """The same for jobs that ended without an outcome in the message: ids alone; empty for the prefix."""
        return f"{self.prefix}:ended:{reply_to}"

    @property
    def progress(self) -> str:
        """Pub/sub channel of processes of the release before: ids of jobs of which clips were scored."""
        return f"{self.prefix}:progress"


class KeyPrefixes:
    """What families of keys begin with, for scripts that learn the rest of the key from Redis."""

    def __init__(self, keys: RedisKeys) -> None:
        self.job = keys.job("")
        self.scores = keys.scores("")
        self.letter = keys.dead_job("")
        self.webhook = keys.webhook("")
        self.batch_webhook = keys.batch_webhook("")
        self.stream_webhook = keys.stream_webhook("")
        self.live_events = keys.live_events("")
        self.held = keys.held("")
        self.worker = keys.worker("")
        self.model = keys.model("", "").removesuffix(":")
        """`name:version` follows"""
        self.route = keys.route("")
        self.clip = keys.payload("", "").removesuffix(":")
        """`job:number` follows"""
        self.stream = keys.clips("", JobClass.BULK).removesuffix(f":{JobClass.BULK}")
        """`route:class` follows"""
