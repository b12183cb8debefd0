"""Generated from schemas/ by `python -m trimtab.contracts.generate`. Never edited."""

from collections.abc import Mapping

from trimtab.contracts.specs import Metric

RUNTIME_RECORDS_READ = Metric(name='trimtab.runtime.records.read',
       kind='counter',
       unit='{record}',
       attributes=('stage', 'topic'),
       description='records given to steps')
RUNTIME_RECORDS_REFUSED = Metric(name='trimtab.runtime.records.refused',
       kind='counter',
       unit='{record}',
       attributes=('stage', 'topic'),
       description='control records that keep no schema, passed over')
RUNTIME_RECORDS_WRITTEN = Metric(name='trimtab.runtime.records.written',
       kind='counter',
       unit='{record}',
       attributes=('stage', 'topic'),
       description='records written in committed transactions')
RUNTIME_TRANSACTIONS = Metric(name='trimtab.runtime.transactions',
       kind='counter',
       unit='{transaction}',
       attributes=('stage', 'outcome'),
       description='transactions ended')
RUNTIME_STEP_DURATION = Metric(name='trimtab.runtime.step.duration',
       kind='histogram',
       unit='s',
       attributes=('stage',),
       description='time a step took for one batch')
RUNTIME_TRANSACTION_DURATION = Metric(name='trimtab.runtime.transaction.duration',
       kind='histogram',
       unit='s',
       attributes=('stage',),
       description='from the first write to the commit')
RUNTIME_BATCH_SIZE = Metric(name='trimtab.runtime.batch.size',
       kind='histogram',
       unit='{record}',
       attributes=('stage',),
       description='records in a batch')
RUNTIME_RESTORE_DURATION = Metric(name='trimtab.runtime.restore.duration',
       kind='histogram',
       unit='s',
       attributes=('stage',),
       description='time to open a task and restore its tables')
RUNTIME_RESTARTS = Metric(name='trimtab.runtime.restarts',
       kind='counter',
       unit='{restart}',
       attributes=('stage', 'reason'),
       description='tasks opened again after a failure')
RUNTIME_TASKS = Metric(name='trimtab.runtime.tasks', kind='gauge', unit='{task}', attributes=('stage',), description='open tasks')
RUNTIME_PARKED = Metric(name='trimtab.runtime.parked',
       kind='gauge',
       unit='{task}',
       attributes=('stage',),
       description='tasks that failed over and over, or were told to, and stand still until a person decides')
RUNTIME_UNREADABLE = Metric(name='trimtab.runtime.unreadable',
       kind='gauge',
       unit='{partition}',
       attributes=('stage',),
       description='partitions that cannot be read to their end, behind a transaction that does not end')
RUNTIME_TABLE_ENTRIES = Metric(name='trimtab.runtime.table.entries',
       kind='gauge',
       unit='{entry}',
       attributes=('stage', 'partition'),
       description='entries in the tables of a task')
RUNTIME_LAG = Metric(name='trimtab.runtime.lag',
       kind='gauge',
       unit='{record}',
       attributes=('stage', 'partition'),
       description='records behind the end of the inputs')
RUNTIME_PROGRESS = Metric(name='trimtab.runtime.progress',
       kind='gauge',
       unit='s',
       attributes=('stage', 'partition'),
       description='event time reached (Unix time)')
RUNTIME_GATE_WAIT = Metric(name='trimtab.runtime.gate.wait',
       kind='histogram',
       unit='s',
       attributes=('stage',),
       description='time records waited for their views')
RUNTIME_EFFECTS = Metric(name='trimtab.runtime.effects',
       kind='counter',
       unit='{effect}',
       attributes=('stage', 'outcome'),
       description='effects ended')
RUNTIME_VIEW_RECORDS = Metric(name='trimtab.runtime.view.records',
       kind='counter',
       unit='{record}',
       attributes=('topic',),
       description='records folded into views')
RUNTIME_VIEW_REFUSED = Metric(name='trimtab.runtime.view.refused',
       kind='counter',
       unit='{record}',
       attributes=('topic',),
       description='records that views passed over because they keep no schema')
HTTP_SERVER_REQUEST_DURATION = Metric(name='http.server.request.duration',
       kind='histogram',
       unit='s',
       attributes=('http.route', 'http.response.status_code'),
       description='time to answer a request')
INGEST_EVENTS = Metric(name='trimtab.ingest.events',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'event'),
       description='events that came in')
INGEST_ACCEPTED = Metric(name='trimtab.ingest.accepted',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'event'),
       description='events that kept the contract')
INGEST_REJECTED = Metric(name='trimtab.ingest.rejected',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'event', 'rule'),
       description='events put into quarantine')
INGEST_DUPLICATES = Metric(name='trimtab.ingest.duplicates',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'event'),
       description='copies dropped')
INGEST_REVISIONS = Metric(name='trimtab.ingest.revisions',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'event'),
       description='corrections let through')
FEATURE_CONTRIBUTIONS = Metric(name='trimtab.feature.contributions',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'group'),
       description='events that went into a group')
FEATURE_TILES = Metric(name='trimtab.feature.tiles',
       kind='gauge',
       unit='{tile}',
       attributes=('loop', 'group'),
       description='tiles alive')
FEATURE_LATE = Metric(name='trimtab.feature.late',
       kind='counter',
       unit='{event}',
       attributes=('loop', 'group'),
       description='events too late for their tile')
PREDICTOR_PREDICTIONS = Metric(name='trimtab.predictor.predictions',
       kind='counter',
       unit='{prediction}',
       attributes=('loop', 'arm', 'origin'),
       description='predictions made')
PREDICTOR_ASKS_REPEATED = Metric(name='trimtab.predictor.asks.repeated',
       kind='counter',
       unit='{ask}',
       attributes=('loop',),
       description='asks whose key had its prediction already')
PREDICTOR_MODEL_VERSION = Metric(name='trimtab.predictor.model.version',
       kind='gauge',
       unit='{version}',
       attributes=('loop', 'arm'),
       description='version that serves; 0: none')
PREDICTOR_ONLINE_MEMORY = Metric(name='trimtab.predictor.online.memory',
       kind='gauge',
       unit='By',
       attributes=('loop',),
       description='memory of the replica of online values')
PREDICTOR_SPOOLED = Metric(name='trimtab.predictor.spooled',
       kind='gauge',
       unit='By',
       attributes=('loop',),
       description='answers over HTTP that wait on disk for Kafka')
MONITOR_OUTCOMES = Metric(name='trimtab.monitor.outcomes',
       kind='counter',
       unit='{outcome}',
       attributes=('loop', 'status'),
       description='outcomes written')
MONITOR_REVISIONS = Metric(name='trimtab.monitor.revisions',
       kind='counter',
       unit='{outcome}',
       attributes=('loop',),
       description='outcomes replaced by later events')
MONITOR_PENDING = Metric(name='trimtab.monitor.pending',
       kind='gauge',
       unit='{prediction}',
       attributes=('loop', 'partition'),
       description='predictions that wait for their label')
MONITOR_LABELS_LATE = Metric(name='trimtab.monitor.labels.late',
       kind='counter',
       unit='{event}',
       attributes=('loop',),
       description='label events after their window')
MONITOR_LABELS_REPEATED = Metric(name='trimtab.monitor.labels.repeated',
       kind='counter',
       unit='{event}',
       attributes=('loop',),
       description='label events and asks that came again')
MONITOR_LABELS_CORRECTED = Metric(name='trimtab.monitor.labels.corrected',
       kind='counter',
       unit='{event}',
       attributes=('loop',),
       description='label events that replaced an earlier one with their id')
MONITOR_LABELS_HELD = Metric(name='trimtab.monitor.labels.held',
       kind='gauge',
       unit='1',
       attributes=('loop', 'partition'),
       description='1 while a silent source keeps label windows open')
MONITOR_WAITING = Metric(name='trimtab.monitor.waiting',
       kind='gauge',
       unit='{prediction}',
       attributes=('loop', 'partition'),
       description='predictions whose model is not known here yet')
MONITOR_LATE = Metric(name='trimtab.monitor.late',
       kind='counter',
       unit='{row}',
       attributes=('loop',),
       description='sums that came after their bucket was closed')
MONITOR_LOOKS = Metric(name='trimtab.monitor.looks',
       kind='counter',
       unit='{look}',
       attributes=('loop',),
       description='looks at the signals')
MONITOR_EVIDENCE = Metric(name='trimtab.monitor.evidence',
       kind='gauge',
       unit='1',
       attributes=('loop', 'signal'),
       description='Shiryaev-Roberts statistic of a signal')
MONITOR_DRIFTS = Metric(name='trimtab.monitor.drifts',
       kind='counter',
       unit='{alarm}',
       attributes=('loop',),
       description='drifts detected')
MONITOR_METRIC = Metric(name='trimtab.monitor.metric',
       kind='gauge',
       unit='1',
       attributes=('loop', 'version', 'kind'),
       description='last measured metric of a version')
MONITOR_HELD = Metric(name='trimtab.monitor.held',
       kind='gauge',
       unit='{rule}',
       attributes=('loop',),
       description='quality rules violated now')
RETRAIN_CONTROLLER_REQUESTS = Metric(name='trimtab.retrain-controller.requests',
       kind='counter',
       unit='{request}',
       attributes=('loop', 'kind'),
       description='retrains requested')
RETRAIN_CONTROLLER_DECLINES = Metric(name='trimtab.retrain-controller.declines',
       kind='counter',
       unit='{decline}',
       attributes=('loop', 'reason'),
       description='retrains declined')
TRAINER_MODELS = Metric(name='trimtab.trainer.models',
       kind='counter',
       unit='{model}',
       attributes=('loop', 'verdict'),
       description='models trained')
TRAINER_FAILURES = Metric(name='trimtab.trainer.failures',
       kind='counter',
       unit='{fit}',
       attributes=('loop', 'reason'),
       description='fits that failed')
TRAINER_FIT_DURATION = Metric(name='trimtab.trainer.fit.duration',
       kind='histogram',
       unit='s',
       attributes=('loop',),
       description='from the request to the verdict')
TRAINER_ROWS = Metric(name='trimtab.trainer.rows',
       kind='gauge',
       unit='{row}',
       attributes=('loop',),
       description='rows of the newest dataset')
REGISTRY_VERSIONS = Metric(name='trimtab.registry.versions',
       kind='counter',
       unit='{version}',
       attributes=('loop', 'verdict'),
       description='versions registered')
REGISTRY_DEPLOYMENTS = Metric(name='trimtab.registry.deployments',
       kind='counter',
       unit='{deployment}',
       attributes=('loop', 'kind'),
       description='deployments changed')
REGISTRY_COMMANDS = Metric(name='trimtab.registry.commands',
       kind='counter',
       unit='{command}',
       attributes=('loop', 'outcome'),
       description='commands settled')
REGISTRY_PROJECTION_LAG = Metric(name='trimtab.registry.projection.lag',
       kind='gauge',
       unit='{record}',
       attributes=('topic',),
       description='records the database is behind the log')
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (RUNTIME_RECORDS_READ, RUNTIME_RECORDS_REFUSED, RUNTIME_RECORDS_WRITTEN, RUNTIME_TRANSACTIONS, RUNTIME_STEP_DURATION, RUNTIME_TRANSACTION_DURATION, RUNTIME_BATCH_SIZE, RUNTIME_RESTORE_DURATION, RUNTIME_RESTARTS, RUNTIME_TASKS, RUNTIME_PARKED, RUNTIME_UNREADABLE, RUNTIME_TABLE_ENTRIES, RUNTIME_LAG, RUNTIME_PROGRESS, RUNTIME_GATE_WAIT, RUNTIME_EFFECTS, RUNTIME_VIEW_RECORDS, RUNTIME_VIEW_REFUSED, HTTP_SERVER_REQUEST_DURATION, INGEST_EVENTS, INGEST_ACCEPTED, INGEST_REJECTED, INGEST_DUPLICATES, INGEST_REVISIONS, FEATURE_CONTRIBUTIONS, FEATURE_TILES, FEATURE_LATE, PREDICTOR_PREDICTIONS, PREDICTOR_ASKS_REPEATED, PREDICTOR_MODEL_VERSION, PREDICTOR_ONLINE_MEMORY, PREDICTOR_SPOOLED, MONITOR_OUTCOMES, MONITOR_REVISIONS, MONITOR_PENDING, MONITOR_LABELS_LATE, MONITOR_LABELS_REPEATED, MONITOR_LABELS_CORRECTED, MONITOR_LABELS_HELD, MONITOR_WAITING, MONITOR_LATE, MONITOR_LOOKS, MONITOR_EVIDENCE, MONITOR_DRIFTS, MONITOR_METRIC, MONITOR_HELD, RETRAIN_CONTROLLER_REQUESTS, RETRAIN_CONTROLLER_DECLINES, TRAINER_MODELS, TRAINER_FAILURES, TRAINER_FIT_DURATION, TRAINER_ROWS, REGISTRY_VERSIONS, REGISTRY_DEPLOYMENTS, REGISTRY_COMMANDS, REGISTRY_PROJECTION_LAG)}
