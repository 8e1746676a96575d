-- The tables of the first release.
--
-- Instants and durations are bigint milliseconds (instants since the Unix epoch, by the server's
-- clock); priorities, delays and leases are then plain sums, and no session setting matters.
-- The place of a live job is its `state`: 0 ready, 1 scheduled, 4 running, 5 quarantined (2 and 3
-- are reserved). `status` of a record: 10 completed, 11 failed, 12 cancelled, 13 dead.
-- No foreign keys, triggers, enum types or functions: old and new code work side by side.

create table aioq.job (
    id           uuid     not null primary key,
    queue        text     not null,
    task         text     not null,
    state        smallint not null,
    sort_key     bigint   not null,                -- run_at minus the head start of the priority
    run_at       bigint   not null,
    priority     integer  not null,
    delivery     integer  not null default 0,
    retries      integer  not null default 0,
    crashes      integer  not null default 0,
    suspect      boolean  not null default false,  -- the current delivery came from quarantine
    owner        uuid,                             -- with delivery the last token, kept afterwards
    ended        smallint not null default 0,      -- that delivery: 0 open (also after a rescue),
                                                   -- 1 settled, 2 open when its job was requeued
    lease_until  bigint,
    cancel_asked boolean  not null default false,
    created_at   bigint   not null,
    started_at   bigint,
    policy       bytea    not null,
    body         bytea    not null,
    note         bytea
) with (
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.05
);
-- The lease is in no index, so that renewals are heap-only updates.
create index job_ready       on aioq.job (queue, sort_key, id) where state = 0;
create index job_due         on aioq.job (queue, run_at)       where state = 1;
create index job_running     on aioq.job (queue)               where state = 4;
create index job_quarantined on aioq.job (queue, sort_key, id) where state = 5;

create table aioq.job_done (
    id           uuid     not null primary key,
    queue        text     not null,
    task         text     not null,
    status       smallint not null,
    run_at       bigint   not null,
    priority     integer  not null,
    delivery     integer  not null,
    retries      integer  not null,
    crashes      integer  not null,
    owner        uuid,
    ended        smallint not null,
    created_at   bigint   not null,
    started_at   bigint,
    finished_at  bigint   not null,
    policy       bytea    not null,
    body         bytea,
    note         bytea,
    result       bytea,
    content_type text
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
create index job_done_prune on aioq.job_done (finished_at) where result is null;
create index job_done_saved on aioq.job_done (finished_at) where result is not null;
create index job_done_rare  on aioq.job_done (status, id)  where status > 10;

-- How many records each queue has, as sums of many small rows, so that counting walks no records
-- and no two workers wait for one row. Upkeep folds the rows together.
create table aioq.tally (
    queue  text     not null,
    status smallint not null,
    number bigint   not null
);

create table aioq.producer (
    nonce   bytea  not null,
    queue   text   not null,
    last    bigint not null,
    used_at bigint not null,
    primary key (nonce, queue)
) with (fillfactor = 50);

create table aioq.queue (
    name   text    not null primary key,
    paused boolean not null default false
);

create table aioq.worker (
    id          uuid             not null primary key,
    seen_at     bigint           not null,
    hostname    text             not null,
    pid         integer          not null,
    queues      text[]           not null,
    concurrency integer          not null,
    version     text             not null,
    running     integer          not null,
    uptime      double precision not null
) with (fillfactor = 50);

-- The one row that upkeep and renewals stamp.
create table aioq.stamp (
    only_one     boolean not null primary key default true check (only_one),
    last         bigint,                           -- the last renewal or upkeep
    rescue_after bigint  not null
) with (fillfactor = 10);
insert into aioq.stamp (last, rescue_after) values (null, 0);
