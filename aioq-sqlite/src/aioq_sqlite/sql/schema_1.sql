-- Schema 1. Instants and durations are milliseconds; ids and owners are the 16 bytes of a UUID.
-- The place of a live job is its `state`: 0 ready, 1 scheduled, 4 running, 5 quarantined
-- (2 and 3 are reserved). `status` of a record: 10 completed, 11 failed, 12 cancelled, 13 dead.

create table job (
    seq          integer primary key,
    id           blob    not null unique,
    queue        text    not null,
    task         text    not null,
    state        integer not null,
    sort_key     integer not null,             -- run_at minus the head start of the priority
    run_at       integer not null,
    priority     integer not null,
    delivery     integer not null default 0,
    retries      integer not null default 0,
    crashes      integer not null default 0,
    suspect      integer not null default 0,   -- the current delivery came from quarantine
    owner        blob,                         -- with `delivery` the last token, kept after it ended
    ended        integer not null default 0,   -- 1: settle ended that delivery, 2: a requeue voided it
    lease_until  integer,
    cancel_asked integer not null default 0,
    created_at   integer not null,
    started_at   integer,
    policy       blob    not null,
    body         blob    not null,
    note         blob
);
-- `state` ends each index because only then it is enough for counting.
create index job_ready       on job (queue, sort_key, id, run_at, state) where state = 0;
create index job_due         on job (queue, run_at, retries, state)      where state = 1;
create index job_running     on job (lease_until, queue, state)          where state = 4;
create index job_quarantined on job (queue, sort_key, id, run_at, state) where state = 5;

create table job_done (
    seq          integer primary key,
    id           blob    not null unique,
    queue        text    not null,
    task         text    not null,
    status       integer not null,
    run_at       integer not null,
    priority     integer not null,
    delivery     integer not null,
    retries      integer not null,
    crashes      integer not null,
    owner        blob,
    ended        integer not null,
    created_at   integer not null,
    started_at   integer,
    finished_at  integer not null,
    policy       blob    not null,
    body         blob,
    note         blob,
    result       blob,
    content_type text
);
create index job_done_prune on job_done (finished_at) where result is null;
create index job_done_saved on job_done (finished_at) where result is not null;
create index job_done_rare  on job_done (status, id)  where status > 10;

-- How many records each queue has, so that counting does not walk them.
create table tally (
    queue  text    not null,
    status integer not null,
    number integer not null,
    primary key (queue, status)
) without rowid;

create table producer (
    nonce   blob    not null,
    queue   text    not null,
    last    integer not null,
    used_at integer not null,
    primary key (nonce, queue)
) without rowid;
create index producer_used on producer (used_at);

create table queue (
    name   text    not null primary key,
    paused integer not null default 0
) without rowid;
create index queue_paused on queue (name) where paused = 1;

create table worker (
    id          blob    not null primary key,
    seen_at     integer not null,
    hostname    text    not null,
    pid         integer not null,
    queues      text    not null,              -- a JSON list
    concurrency integer not null,
    version     text    not null,
    running     integer not null,
    uptime      real    not null
) without rowid;

-- The one row that upkeep and renewals stamp.
create table stamp (
    only         integer not null primary key check (only = 1),
    last         integer,                      -- the last renewal or upkeep
    rescue_after integer not null
);
insert into stamp values (1, null, 0);
