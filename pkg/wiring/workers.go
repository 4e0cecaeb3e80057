package wiring

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/activity"
	"github.com/ocelot-audit/ocelot/pkg/archive"
	"github.com/ocelot-audit/ocelot/pkg/arrival"
	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/certificate"
	"github.com/ocelot-audit/ocelot/pkg/cleanup"
	"github.com/ocelot-audit/ocelot/pkg/edge/lambdaedge"
	"github.com/ocelot-audit/ocelot/pkg/erasure"
	"github.com/ocelot-audit/ocelot/pkg/export"
	"github.com/ocelot-audit/ocelot/pkg/hold"
	"github.com/ocelot-audit/ocelot/pkg/ingest"
	"github.com/ocelot-audit/ocelot/pkg/jobs"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/metrics"
	"github.com/ocelot-audit/ocelot/pkg/protect"
	"github.com/ocelot-audit/ocelot/pkg/quarantine"
	"github.com/ocelot-audit/ocelot/pkg/restore"
	"github.com/ocelot-audit/ocelot/pkg/retention"
	"github.com/ocelot-audit/ocelot/pkg/search"
	"github.com/ocelot-audit/ocelot/pkg/tenants"
	"github.com/ocelot-audit/ocelot/pkg/trace"
	"github.com/ocelot-audit/ocelot/pkg/walk"
)

// The workers: functions that a queue, a schedule or the gateway itself invokes. Each
// method has the name of its function.

// AuthorizeRequest returns what finds out who calls.
func (s *Services) AuthorizeRequest() lambdaedge.Callers {
	return lambdaedge.Callers{Authenticate: s.authorizer().Authenticate, UsageKey: s.usageKey, Attempts: s.attempts()}
}

// usageKey returns the API key of the tenant's tier. It is that of the standard tier if the tier
// cannot be found out: usage plans are coarse, and quotas count what they let pass.
func (s *Services) usageKey(ctx context.Context, tenant audit.TenantID) string {
	if s.Stores.UsageKeys.Priority == "" || tenant == "" {
		return s.Stores.UsageKeys.Standard
	}
	record, err := s.tenants().StaleIfError().Tenant(ctx, tenant)
	if err == nil && record.Settings.Tier == audit.TierPriority {
		return s.Stores.UsageKeys.Priority
	}
	if err != nil && !errors.Is(err, audit.ErrNotFound) {
		s.Log.WarnContext(ctx, "the tier of a tenant was not found out, so its requests count as standard", "tenant", string(tenant), "error", err)
	}
	return s.Stores.UsageKeys.Standard
}

// PersistLogs returns what stores the entries of a batch of the ingest queues.
func (s *Services) PersistLogs() lambdaedge.BatchHandler {
	counts := metrics.New(s.Metrics, "persist-logs", s.Now)
	persister := &ingest.Persister{
		Keys: s.keyring(), Store: s.Stores.Entries, Quarantine: s.Quarantine(), Tenants: s.consumerTenants(), Index: s.Stores.Queue(manifest.QueueIndex),
		Arrivals:    s.Stores.Queue(manifest.QueueArrival),
		DeadLetters: s.Stores.DeadLetters(manifest.QueueIngest), PriorityDeadLetters: s.Stores.DeadLetters(manifest.QueueIngestPriority),
		Days: &ingest.ActiveDays{Register: s.Stores.Activity, Grace: s.Stores.Grace, Now: s.Now}, Now: s.Now, Clock: s.Stores.Clock,
		Committer: s.Stores.Committer, Handoff: s.Stores.Handoff,
		Dropped:   s.countEntries(counts, metrics.Expired, "accepted entries had expired long ago and were not stored"),
		Conflicts: s.countEntries(counts, metrics.IdentityConflicts, "entries with the identity and not the content of others went to the quarantine"),
		Worked:    s.follow("entries stored"),
	}
	if persister.Committer != nil {
		persister.Nudge, persister.Worked = s.nudger().Nudge, s.follow("entries stored, indexed and ordered")
	}
	return lambdaedge.Together(persister.Persist)
}

// countEntries returns what logs and counts accepted entries that were not stored, without
// their content.
func (s *Services) countEntries(w *metrics.Writer, metric, message string) func(ctx context.Context, tenant audit.TenantID, entries int) {
	return func(ctx context.Context, tenant audit.TenantID, entries int) {
		s.Log.WarnContext(ctx, message, "tenant", string(tenant), "entries", entries)
		if err := w.Write(tenant, []metrics.Metric{{Name: metric, Unit: metrics.Count, Value: float64(entries)}}, nil); err != nil {
			s.Log.ErrorContext(ctx, "a metric was not written", "error", err)
		}
	}
}

// IndexLogs returns what indexes the entries of a batch of the index queue.
func (s *Services) IndexLogs() lambdaedge.BatchHandler {
	delayed := s.publishDelays(metrics.New(s.Metrics, "index-logs", s.Now), metrics.SearchableAfter)
	indexer := &search.Indexer{
		Index: s.Stores.Index, Quarantine: s.Quarantine(), Tenants: s.consumerTenants(), Keys: s.keyring(), Clock: s.Stores.Clock, Now: s.Now,
		Searchable: func(ctx context.Context, delays []time.Duration) { delayed(ctx, "", delays) }, Worked: s.follow("entries indexed"),
	}
	return lambdaedge.Together(indexer.IndexMessages)
}

// follow returns what logs the work of a step with the traces of its requests, and records it in
// those that are sampled.
func (s *Services) follow(message string) func(ctx context.Context, w trace.Work) {
	return func(ctx context.Context, w trace.Work) {
		w.Record(s.Now())
		w.Log(ctx, s.Log, message)
	}
}

// publishDelays returns what writes delays as a metric.
func (s *Services) publishDelays(w *metrics.Writer, name string) func(ctx context.Context, tenant audit.TenantID, delays []time.Duration) {
	return func(ctx context.Context, tenant audit.TenantID, delays []time.Duration) {
		for values := range slices.Chunk(delays, metrics.MaxValues) {
			seconds := make([]float64, len(values))
			for i, v := range values {
				seconds[i] = v.Seconds()
			}
			if err := w.Write(tenant, []metrics.Metric{{Name: name, Unit: metrics.Seconds, Values: seconds}}, nil); err != nil {
				s.Log.ErrorContext(ctx, "a metric was not written", "error", err)
			}
		}
	}
}

// OrderLogs returns what gives the entries of a batch of the arrival queue their places.
func (s *Services) OrderLogs() lambdaedge.BatchHandler {
	orderer := &arrival.Orderer{
		Log: s.Stores.Arrivals, Tenants: s.consumerTenants(), Now: s.Now,
		Nudger: s.nudger(), Worked: s.follow("entries ordered"),
	}
	return lambdaedge.Together(orderer.Order)
}

// nudger tells the live streams that arrival logs have grown.
func (s *Services) nudger() *arrival.Nudger {
	return &arrival.Nudger{Streams: s.Stores.Streams, Queue: s.Stores.Queue(manifest.QueueStream)}
}

// StreamLogs returns what sends entries to the subscribers of the tenant of one message.
func (s *Services) StreamLogs() lambdaedge.BatchHandler {
	pump := s.Stream()
	pump.Delivered = s.publishDelays(metrics.New(s.Metrics, "stream-logs", s.Now), metrics.DeliveredAfter)
	pump.Worked = s.follow("entries sent to subscribers")
	return lambdaedge.EachMessage(pump.Deliver)
}

// keySettleTime is how long after its destruction another process can use a tenant's key.
const keySettleTime = protect.KeyTTL + maxRequestTime + maxClockSkew

// RunJobs returns what does a slice of the job of one message of the jobs queue.
func (s *Services) RunJobs() lambdaedge.BatchHandler {
	certificates := &certificate.Issuer{Store: s.Stores.Certificates, Wrapper: s.Stores.MasterKey, Random: random}
	purge := &jobs.TenantPurge{
		Tenants: s.tenants().Fresh(), Now: s.Now, Clock: s.Stores.Clock, DrainPeriod: s.Stores.DrainPeriod, Held: s.holdStands, Log: s.Log, Archive: &archive.Keeper{Blobs: s.Stores.Archive},
		Certificates: certificates, SettleTime: keySettleTime, MessageTime: s.Stores.MessageTime, BackupTime: s.Stores.KeyBackupTime, Random: random,
		FreeSpace: s.Stores.FreeSpace,
		Stores: []jobs.NamedPurger{
			{Name: "entries", Purger: s.Stores.Entries}, {Name: "index", Purger: s.Stores.Index},
			{Name: "quarantine", Purger: s.Stores.Quarantine}, {Name: "API keys", Purger: s.Stores.Keys},
			{Name: "arrival log", Purger: s.Stores.Arrivals}, {Name: "live stream", Purger: s.Stores.Streams}, {Name: "connections", Purger: s.Stores.Connections},
			{Name: "tenant keys", Purger: &erasure.KeyPurger{Tombstones: s.tombstones(), Keys: s.Stores.TenantKeys}}, {Name: "register of days", Purger: s.Stores.Activity}, {Name: "quotas", Purger: s.Stores.Quotas}, {Name: "refused attempts", Purger: s.Stores.Attempts},
			{Name: "legal holds", Purger: s.Stores.Holds},
			{Name: "exports", Purger: &export.Purger{Files: s.Stores.Exports}}, {Name: "archive", Purger: s.Stores.Archive, Archive: true},
		},
	}
	if s.Stores.LocalMessages != nil {
		purge.Stores = append(purge.Stores, jobs.NamedPurger{Name: "messages", Purger: s.Stores.LocalMessages})
	}
	erasures := &erasure.Runner{
		Keys: s.keyring(), Tombstones: s.tombstones(), Holds: s.Stores.Holds, Store: s.Stores.Entries, Entries: s.Stores.Entries, Index: s.Stores.Index, Tenants: s.tenants().Fresh(), Recorder: s.accept(), FreeSpace: s.Stores.FreeSpace,
		Quarantine: &quarantine.Rewriter{Store: s.Stores.Quarantine},
		Archive:    &archive.Reader{Blobs: s.Stores.Archive},
		Exports:    &export.Remover{Jobs: s.Stores.Jobs, Queues: s.jobQueues(), Files: s.Stores.Exports, Clock: s.Stores.Clock, Now: s.Now, Random: random},
		SettleTime: keySettleTime, Clock: s.Stores.Clock, Now: s.Now, Random: random, BackupTime: s.Stores.KeyBackupTime, Certificates: certificates,
	}
	if lag := s.lag(); lag != nil {
		erasures.Lag, erasures.PutReplaces = lag, true
	}
	holds := &hold.Runner{
		Holds: s.Stores.Holds, Store: s.Stores.Entries, Jobs: s.Stores.Jobs,
		Tenants: s.tenants().Fresh(), Recorder: s.accept(), Retain: s.retainAgain, Clock: s.Stores.Clock, Now: s.Now, Random: random,
	}
	worker := &jobs.Worker{
		Store: s.Stores.Jobs, Queues: s.jobQueues(), Recorder: s.accept(), Tenants: s.tenants().Fresh(), Random: random, Failing: s.failingJob(), Clock: s.Stores.Clock, Now: s.Now, Log: s.Log,
		Runners: map[jobs.Kind]jobs.Runner{
			jobs.KindPurgeTenant: purge, jobs.KindErasure: erasures, jobs.KindLegalHold: holds, jobs.KindExport: s.exporter(), jobs.KindCleanup: s.cleaner(),
		},
		Tasks: map[jobs.TaskName]jobs.Task{},
	}
	for name, task := range s.dayTasks() {
		worker.Tasks[name] = task.Do
	}
	again := &retention.Again{Register: s.Stores.Activity, Plan: s.dayPlan(jobs.TaskRetain), Now: s.Now}
	worker.Tasks[jobs.TaskRetainAgain] = again.Do
	if s.Stores.FreeSpace != nil {
		space := &jobs.FreeSpace{Space: s.Stores.FreeSpace, Queue: worker.Jobs, Now: s.Now}
		worker.Tasks[jobs.TaskFreeSpace] = space.Do
	}
	return lambdaedge.EachMessage(worker.Handle)
}

// failingJob returns what counts a slice of a job that fails again and again.
func (s *Services) failingJob() func(ctx context.Context, job *jobs.Job) {
	counts := metrics.New(s.Metrics, metrics.ServiceJobs, s.Now)
	return func(ctx context.Context, job *jobs.Job) {
		about := map[string]any{"job": job.ID, "kind": job.Kind, "failures": job.Failures - 1} // without the slice that begins
		if err := counts.Write(job.Tenant, []metrics.Metric{{Name: metrics.FailingJobs, Unit: metrics.Count, Value: 1}}, about); err != nil {
			s.Log.ErrorContext(ctx, "a metric was not written", "error", err)
		}
	}
}

// failedDays returns what counts days that could not be checked. The log has each of them.
func (s *Services) failedDays() func(ctx context.Context, tenant audit.TenantID, days int) {
	counts := metrics.New(s.Metrics, metrics.ServiceJobs, s.Now)
	return func(ctx context.Context, tenant audit.TenantID, days int) {
		if err := counts.Write(tenant, []metrics.Metric{{Name: metrics.FailedDays, Unit: metrics.Count, Value: float64(days)}}, nil); err != nil {
			s.Log.ErrorContext(ctx, "a metric was not written", "error", err)
		}
	}
}

// RunArchives returns what does a slice of the job of one message of the archive queue, or its task.
func (s *Services) RunArchives() lambdaedge.BatchHandler {
	planner := &archive.Planner{
		Register: s.Stores.Activity, Tenants: s.tenants().Fresh(), Store: s.Stores.Entries, Blobs: s.Stores.Archive, Holds: s.Stores.Holds,
		Jobs: s.Jobs(), Continue: s.shareDays(jobs.TaskArchive), Failed: s.failedDays(), Clock: s.Stores.Clock, Now: s.Now, Log: s.Log,
	}
	runner := &archive.Runner{
		Store: s.Stores.Entries, Blobs: s.Stores.Archive, Holds: s.Stores.Holds, Tenants: s.tenants().Fresh(), Places: s.Stores.Arrivals, Recorder: s.accept(), Now: s.Now, Random: random,
	}
	exporter := s.exporter()
	exporter.Archived = func(tenant audit.TenantID, from, to time.Time) export.ArchivedEntries {
		return archive.NewEntries(s.Stores.Archive, tenant, from, to)
	}
	erasures := &erasure.ArchiveCheck{
		Holds: s.Stores.Holds, Tenants: s.tenants().Fresh(), Archived: exporter.Archived,
	}
	cleanups := &cleanup.ArchiveRunner{
		Reader: s.walker(), Holds: s.Stores.Holds, Jobs: s.Stores.Jobs, Archive: s.rewriter(), Register: s.Stores.Activity,
	}
	worker := &jobs.Worker{
		Store: s.Stores.Jobs, Queues: s.jobQueues(), Recorder: s.accept(), Tenants: s.tenants().Fresh(), Random: random, Failing: s.failingJob(), Clock: s.Stores.Clock, Now: s.Now, Log: s.Log,
		Runners: map[jobs.Kind]jobs.Runner{
			jobs.KindArchive: runner, jobs.KindRestore: s.restorer(), jobs.KindExport: exporter, jobs.KindErasure: erasures, jobs.KindCleanup: cleanups,
		},
		Tasks: map[jobs.TaskName]jobs.Task{jobs.TaskArchive: planner.Do, jobs.TaskPlanArchive: s.archivePlan().Do},
	}
	return lambdaedge.EachMessage(worker.Handle)
}

// restorer brings archived entries back.
func (s *Services) restorer() *restore.Runner {
	return &restore.Runner{
		Entries: s.Stores.Entries, Archive: s.Stores.Archive, Index: s.Stores.Queue(manifest.QueueIndex), Jobs: s.Stores.Jobs, Tenants: s.tenants().Fresh(),
		Days:  &ingest.ActiveDays{Register: s.Stores.Activity, Grace: s.Stores.Grace, Now: s.Now},
		Clock: s.Stores.Clock, Now: s.Now,
	}
}

// ArchiveLogs returns one run that shares out the days that are due: run-archives archives them.
func (s *Services) ArchiveLogs() func(ctx context.Context) error {
	return s.archivePlan().Run
}

// archivePlan returns what shares out the days that are to be archived. The workers go on with it: at the end of a
// month those of all tenants are due.
func (s *Services) archivePlan() *activity.Plan {
	plan := s.dayPlan(jobs.TaskArchive)
	plan.More = func(ctx context.Context, tenant audit.TenantID, input any) error {
		return jobs.SendTask(ctx, s.Stores.Queue(manifest.QueueArchive), tenant, jobs.TaskPlanArchive, input)
	}
	return plan
}

// holdStands reports whether a legal hold stands in the tenant.
func (s *Services) holdStands(ctx context.Context, tenant audit.TenantID) (bool, error) {
	standing, err := s.Stores.Holds.Standing(ctx, tenant)
	return len(standing) > 0, err
}

// held returns what reports whether a legal hold covers an entry of the tenant.
func (s *Services) held(ctx context.Context, tenant audit.TenantID) (func(*audit.Entry) bool, error) {
	standing, err := s.Stores.Holds.Standing(ctx, tenant)
	return standing.Cover, err
}

// heldUpTo reports whether a legal hold of the tenant can cover an entry with a timestamp up to a time.
func (s *Services) heldUpTo(ctx context.Context, tenant audit.TenantID, last time.Time) (bool, error) {
	standing, err := s.Stores.Holds.Standing(ctx, tenant)
	return standing.Overlap(time.Time{}, last), err
}

// exporter writes the files of exports.
func (s *Services) exporter() *export.Runner {
	return &export.Runner{
		Reader: s.walker(), Holds: s.Stores.Holds, Held: s.Stores.Entries, Revealer: s.Revealer(), Sealer: s.keyring(), Files: s.Stores.Exports, Recorder: s.accept(), Random: random,
	}
}

// cleaner removes what callers have selected.
func (s *Services) cleaner() *cleanup.Runner {
	runner := &cleanup.Runner{
		Reader: s.walker(), Store: s.Stores.Entries, Index: s.Stores.Index, Holds: s.Stores.Holds, Jobs: s.Stores.Jobs,
		Cleaned: &archive.CleanedLog{Blobs: s.Stores.Archive, Holds: s.Stores.Holds, Tenants: s.tenants().Fresh(), Now: s.Now}, Archive: s.rewriter(),
		Removed: s.freeSpaceSoon(),
	}
	if runner.Lag != nil { // what is indexed on its way can come back
		runner.Compared, runner.Grace = s.Stores.Activity, s.Stores.Grace
	}
	return runner
}

// rewriter removes entries from the archive.
func (s *Services) rewriter() *archive.Rewriter {
	return &archive.Rewriter{Blobs: s.Stores.Archive, Holds: s.Stores.Holds, Now: s.Now}
}

// walker reads entries for jobs.
func (s *Services) walker() walk.Reader {
	reader := walk.Reader{Entries: s.indexed(), Tenants: s.tenants().Fresh(), Texts: s.keyring(), Now: s.Now}
	if lag := s.lag(); lag != nil {
		reader.Lag = lag
	}
	return reader
}

// lag tells whether the index has what is stored; nil if entries are indexed as they are stored.
func (s *Services) lag() *search.Lag {
	if s.Stores.Committer != nil {
		return nil
	}
	return &search.Lag{Store: s.Stores.Entries, Index: s.Stores.Index, Reader: s.Stores.Entries, Rejected: s.Quarantine(), Clock: s.Stores.Clock, Now: s.Now}
}

// tombstones writes and lists what says which keys were destroyed.
func (s *Services) tombstones() *erasure.Tombstones {
	return &erasure.Tombstones{Blobs: s.Stores.Tombstones, Clock: s.Stores.Clock, Now: s.Now}
}

// ReplayErasures returns one run that destroys erased keys again that a restore of the database brought
// back.
func (s *Services) ReplayErasures() func(ctx context.Context) error {
	replay := &erasure.Replay{
		Tombstones: s.tombstones(), Keys: s.Stores.TenantKeys, Destroy: s.keyring().Destroy, FreeSpace: s.Stores.FreeSpace, Now: s.Now, Log: s.Log,
	}
	return func(ctx context.Context) error {
		_, err := replay.Run(ctx)
		return err
	}
}

// PlanJobs returns one run that sends again the messages of jobs that stand still.
func (s *Services) PlanJobs() func(ctx context.Context) error {
	return func(ctx context.Context) error {
		sent, err := s.Jobs().Plan(ctx)
		if sent > 0 {
			s.Log.InfoContext(ctx, "jobs that stood still were queued again", "jobs", sent)
		}
		return err
	}
}

// PlaceTenants returns one run that gives large tenants indexes of their own, prepares the indexes of
// the next month, and removes the empty ones of past months.
func (s *Services) PlaceTenants() func(ctx context.Context) error {
	counts := metrics.New(s.Metrics, "place-tenants", s.Now)
	return func(ctx context.Context) error {
		if s.Stores.Sizes == nil {
			return nil
		}
		placer := &tenants.Placer{Tenants: s.tenants().Fresh(), Sizes: s.Stores.Sizes, Placing: s.Stores.Placing, Now: s.Now, Log: s.Log}
		return errors.Join(placer.Run(ctx), s.removeEmptyIndexes(ctx, counts))
	}
}

// removeEmptyIndexes removes the empty indexes of past months, and logs and counts them.
func (s *Services) removeEmptyIndexes(ctx context.Context, counts *metrics.Writer) error {
	if s.Stores.EmptyIndexes == nil {
		return nil
	}
	removed, err := s.Stores.EmptyIndexes.RemoveEmptyIndexes(ctx)
	if len(removed) == 0 {
		return err
	}
	s.Log.InfoContext(ctx, "empty indexes were removed", "indexes", removed)
	return errors.Join(err, counts.Write("", []metrics.Metric{{Name: "IndexesRemoved", Unit: metrics.Count, Value: float64(len(removed))}}, nil))
}

// PreparePartitions returns one run that creates the collections of this month and of
// the next one with their indexes.
func (s *Services) PreparePartitions() func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if s.Stores.Partitions == nil {
			return nil
		}
		more, err := s.Stores.Partitions.PreparePartitions(ctx)
		if err != nil {
			return err
		}
		if more {
			s.Log.InfoContext(ctx, "more partitions remain for the next run")
		}
		return nil
	}
}

// ReconcileIndex returns one run that shares out the days that are due: run-jobs compares
// them, and prunes arrival logs.
func (s *Services) ReconcileIndex() func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var failures []error
		for _, name := range []jobs.TaskName{jobs.TaskReconcileIndex, jobs.TaskReconcileArrivals, jobs.TaskPruneArrivals} {
			failures = append(failures, s.dayPlan(name).Run(ctx))
		}
		return errors.Join(failures...)
	}
}

// RetainLogs returns one run that shares out the days on which something is to be done about
// expired entries: run-jobs marks and removes them. It also closes and drops empty partitions, and sends a task if
// something is left in a file of what was removed.
func (s *Services) RetainLogs() func(ctx context.Context) error {
	counts := metrics.New(s.Metrics, "retain-logs", s.Now)
	return func(ctx context.Context) error {
		return errors.Join(s.dayPlan(jobs.TaskRetain).Run(ctx), s.closePartitions(ctx, counts), s.eraseFreeSpace(ctx))
	}
}

// noTenant stands in the place of the tenant in a task that has nothing to do with one.
const noTenant audit.TenantID = "ocelot-free-space"

// eraseFreeSpace sends the task that erases what is left of removed records, if something is: a worker was killed
// before it sent one, or clients have removed something.
func (s *Services) eraseFreeSpace(ctx context.Context) error {
	if s.Stores.FreeSpace == nil {
		return nil
	}
	removal, err := s.Stores.FreeSpace.Pending(ctx)
	if err != nil || removal == 0 {
		return err
	}
	return s.freeSpaceSoon()(ctx, noTenant)
}

// closePartitions closes and drops empty partitions, and logs and counts them.
func (s *Services) closePartitions(ctx context.Context, counts *metrics.Writer) error {
	if s.Stores.Partitions == nil {
		return nil
	}
	done, err := s.Stores.Partitions.ClosePartitions(ctx)
	var changes []metrics.Metric
	for _, change := range []struct {
		metric, message string
		names           []string
	}{
		{"PartitionsClosed", "empty partitions were closed", done.Closed},
		{"PartitionsOpened", "closed partitions are open again, because they have entries", done.Opened},
		{"PartitionsDropped", "empty partitions were dropped", done.Dropped},
	} {
		if n := len(change.names); n > 0 {
			s.Log.InfoContext(ctx, change.message, "partitions", change.names)
			changes = append(changes, metrics.Metric{Name: change.metric, Unit: metrics.Count, Value: float64(n)})
		}
	}
	if len(changes) == 0 {
		return err
	}
	return errors.Join(err, counts.Write("", changes, nil))
}

// dayPlan returns what shares out the days of a task that are due.
func (s *Services) dayPlan(name jobs.TaskName) *activity.Plan {
	return &activity.Plan{Work: dayWork[name], Register: s.Stores.Activity, Now: s.Now, Log: s.Log, Share: s.shareDays(name)}
}

// shareDays returns what sends days of a tenant as a task to its workers.
func (s *Services) shareDays(name jobs.TaskName) func(ctx context.Context, tenant audit.TenantID, days []activity.DueDay) error {
	queue := manifest.QueueJobs
	if name == jobs.TaskArchive {
		queue = manifest.QueueArchive
	}
	return func(ctx context.Context, tenant audit.TenantID, days []activity.DueDay) error {
		return jobs.SendTask(ctx, s.Stores.Queue(queue), tenant, name, days)
	}
}

// dayWork are the kinds of work on days of the register, by the tasks that do them.
var dayWork = map[jobs.TaskName]activity.Work{
	jobs.TaskReconcileIndex: activity.Index, jobs.TaskReconcileArrivals: activity.Places, jobs.TaskPruneArrivals: activity.Prune,
	jobs.TaskRetain: activity.Retain, jobs.TaskArchive: activity.Archive,
}

// dayTasks returns the tasks of dayWork that run-jobs does.
func (s *Services) dayTasks() map[jobs.TaskName]*activity.Task {
	index := &search.ReconcileTask{
		Reconciler: &search.Reconciler{
			Store: s.Stores.Entries, Index: s.Stores.Index, Reader: s.Stores.Entries, Queue: s.Stores.Queue(manifest.QueueIndex), Remover: s.Stores.Index,
			Refused: s.Quarantine(), Grace: s.Stores.Grace, Clock: s.Stores.Clock, Now: s.Now,
		},
		Publish: s.publishTo(metrics.New(s.Metrics, "reconcile-index", s.Now)),
	}
	arrivals := &arrival.Reconciler{
		Log: s.Stores.Arrivals, Store: s.Stores.Entries, Reader: s.Stores.Entries, Nudger: s.nudger(), Now: s.Now,
		Publish: publishPlacesTo(metrics.New(s.Metrics, "reconcile-arrivals", s.Now)),
	}
	retain := &retention.Task{
		Store: s.Stores.Entries, Index: s.Stores.Index, Tenants: s.tenants().Fresh(), Held: s.held, Clock: s.Stores.Clock, Now: s.Now, Removed: s.freeSpaceSoon(),
		RemoveQuarantined: func(ctx context.Context, tenant audit.TenantID, last *string, begin func(context.Context) (func(*audit.Entry) bool, error)) (int, error) {
			return quarantine.RemoveIf(ctx, s.Stores.Quarantine, tenant, last, begin)
		},
		Archived: func(ctx context.Context, tenant audit.TenantID, day time.Time) (retention.Archived, error) {
			return (&archive.Reader{Blobs: s.Stores.Archive}).On(ctx, tenant, day)
		},
		Publish: publishRetentionTo(metrics.New(s.Metrics, "retain-logs", s.Now)),
	}
	pruner := &arrival.Pruner{Log: s.Stores.Arrivals, Tenants: s.tenants().Fresh(), Held: s.heldUpTo, Clock: s.Stores.Clock, Now: s.Now}
	tasks := map[jobs.TaskName]*activity.Task{
		jobs.TaskReconcileIndex:    {Tenants: s.consumerTenants(), Check: index.Check},
		jobs.TaskReconcileArrivals: {Tenants: s.consumerTenants(), Check: arrivals.Check},
		jobs.TaskPruneArrivals:     {Tenants: s.tenants().Fresh(), Check: pruner.Check}, // a longer retention counts at once
		jobs.TaskRetain:            {Tenants: s.tenants().Fresh(), Check: retain.Check},
	}
	for name, task := range tasks {
		task.Work, task.Register, task.Log = dayWork[name], s.Stores.Activity, s.Log
		task.SliceTime, task.Continue, task.Failed, task.Now = jobs.SliceTime, s.shareDays(name), s.failedDays(), s.Now
	}
	return tasks
}

// freeSpaceSoon returns what has the space erased that removals of a tenant leave; nil if the
// engine has none.
func (s *Services) freeSpaceSoon() func(ctx context.Context, tenant audit.TenantID) error {
	if s.Stores.FreeSpace == nil {
		return nil
	}
	return func(ctx context.Context, tenant audit.TenantID) error {
		return jobs.SendTask(ctx, s.Stores.Queue(manifest.QueueJobs), tenant, jobs.TaskFreeSpace, nil)
	}
}

// publishRetentionTo returns what writes what was done on a tenant's day as metrics.
func publishRetentionTo(w *metrics.Writer) func(retention.Result) error {
	return func(r retention.Result) error {
		return w.Write(r.Tenant, []metrics.Metric{
			{Name: "Marked", Unit: metrics.Count, Value: float64(r.Marked)}, {Name: "Unmarked", Unit: metrics.Count, Value: float64(r.Unmarked)},
			{Name: "Removed", Unit: metrics.Count, Value: float64(r.Removed)},
		}, map[string]any{"day": r.Day.Format(time.DateOnly)})
	}
}

// publishTo returns what writes the result of a tenant and day as metrics, and logs what only the index has.
func (s *Services) publishTo(w *metrics.Writer) func(search.Reconciliation) error {
	return func(r search.Reconciliation) error {
		day := r.Day.Format(time.DateOnly)
		if r.Kept > 0 {
			s.Log.Error("the index has entries that the database lacks", "tenant", string(r.Tenant), "day", day, "entries", r.Kept)
		}
		return w.Write(r.Tenant, []metrics.Metric{
			{Name: "Stored", Unit: metrics.Count, Value: float64(r.Stored)}, {Name: "Indexed", Unit: metrics.Count, Value: float64(r.Indexed)},
			{Name: metrics.Repaired, Unit: metrics.Count, Value: float64(r.Repaired)}, {Name: "Lag", Unit: metrics.Seconds, Value: r.Lag.Seconds()},
			{Name: metrics.Kept, Unit: metrics.Count, Value: float64(r.Kept)},
		}, map[string]any{"day": day, "pending": r.Pending, "expired": r.Expired, "refused": r.Refused, "extra": r.Extra})
	}
}

// publishPlacesTo returns what writes the result of a tenant and receipt as metrics.
func publishPlacesTo(w *metrics.Writer) func(arrival.Reconciliation) error {
	return func(r arrival.Reconciliation) error {
		return w.Write(r.Tenant, []metrics.Metric{
			{Name: metrics.Repaired, Unit: metrics.Count, Value: float64(r.Repaired)}, {Name: "Lag", Unit: metrics.Seconds, Value: r.Lag.Seconds()},
		}, map[string]any{
			"received": r.Received.Format(time.DateOnly), "day": r.Day.Format(time.DateOnly), "stored": r.Stored, "placed": r.Placed, "pending": r.Pending,
		})
	}
}
