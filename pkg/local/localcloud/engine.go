package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/config"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqlite"
	"github.com/ocelot-audit/ocelot/pkg/engine/sqsqueue"
	"github.com/ocelot-audit/ocelot/pkg/manifest"
	"github.com/ocelot-audit/ocelot/pkg/wiring"
	"github.com/ocelot-audit/ocelot/pkg/wiring/archivefiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/embedded"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/masterkey"
	"github.com/ocelot-audit/ocelot/pkg/wiring/queues"
	"github.com/ocelot-audit/ocelot/pkg/wiring/records"
	"github.com/ocelot-audit/ocelot/pkg/wiring/searchindex"
	"github.com/ocelot-audit/ocelot/pkg/wiring/timezones"
	"github.com/ocelot-audit/ocelot/pkg/wiring/tombstones"
)

// queue is the receiving side of a queue, with the semantics of SQS.
type queue interface {
	// DeleteAndReceive deletes deliveries, and receives up to max messages if the queue can
	// receive as many at once.
	DeleteAndReceive(ctx context.Context, receipts []string, max int, wait time.Duration) ([]sqlite.Message, error)
	Delete(ctx context.Context, receipts []string) error
	ChangeVisibility(ctx context.Context, receipt string, d time.Duration) error
	Depth(ctx context.Context) (visible, inFlight, dead int64, err error)
}

// engine is what the functions use: the embedded engine, with outside engines
// instead of the parts that the environment names.
type engine struct {
	db     *sqlite.DB
	stores wiring.Stores
	queue  func(name manifest.QueueName) queue
	named  func(name manifest.QueueName) string // as the engine names the queue
	files  *exportfiles.Local                   // of exports; nil: S3 has them
	opened []io.Closer                          // folders of files
}

// openEngine opens the file, and the outside engines that replace parts of it.
func openEngine(ctx context.Context, o Options) (*engine, error) {
	if err := checkLambda(o); err != nil {
		return nil, err
	}
	db, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &engine{
		db: db, stores: embedded.Stores(db),
		queue: func(name manifest.QueueName) queue { return embedded.Queue(db, name) },
		named: embedded.Named,
	}
	timezones.Use(&e.stores)
	name, err := masterKey(o)
	if err == nil {
		e.stores.MasterKey, err = masterkey.Open(name, o.Engines.AWS)
	}
	if err == nil {
		err = e.openExports(o)
	}
	if err == nil {
		err = e.openTombstones(o)
	}
	if err == nil {
		err = e.openArchive(o)
	}
	if err == nil {
		err = e.useOutside(ctx, o.Engines)
	}
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *engine) close() error {
	err := e.db.Close()
	for _, folder := range e.opened {
		err = errors.Join(err, folder.Close())
	}
	return err
}

// closeLater has close close the files that were opened, if they are in a folder.
func (e *engine) closeLater(files any) {
	if folder, is := files.(io.Closer); is {
		e.opened = append(e.opened, folder)
	}
}

// openArchive opens the store of the archive.
func (e *engine) openArchive(o Options) error {
	name, err := archiveBucket(o)
	if err != nil {
		return err
	}
	files, err := archivefiles.Open(name, o.Engines.AWS)
	if err != nil {
		return err
	}
	e.stores.Archive = files
	e.closeLater(files)
	return nil
}

// archiveBucket returns the name of the store of the archive.
func archiveBucket(o Options) (string, error) {
	return inDataFolder(o, o.ArchiveBucket, archivefiles.Folder)
}

// openTombstones opens the store of what outlives a restore of the database.
func (e *engine) openTombstones(o Options) error {
	name, err := tombstonesBucket(o)
	if err != nil {
		return err
	}
	files, err := tombstones.Open(name, o.Engines.AWS)
	if err != nil {
		return err
	}
	e.stores.Tombstones = files
	e.closeLater(files)
	return nil
}

// tombstonesBucket returns the name of the store of tombstones.
func tombstonesBucket(o Options) (string, error) {
	return inDataFolder(o, o.TombstonesBucket, tombstones.Folder)
}

// openExports opens the store of the files of exports.
func (e *engine) openExports(o Options) error {
	name, err := exportsBucket(o)
	if err != nil {
		return err
	}
	files, err := exportfiles.Open(name, o.Engines.AWS)
	if err != nil {
		return err
	}
	e.stores.Exports = files
	e.closeLater(files)
	if local, is := files.(exportfiles.Local); is {
		e.files = &local
	}
	return nil
}

// exportsBucket returns the name of the store of the files of exports.
func exportsBucket(o Options) (string, error) {
	return inDataFolder(o, o.ExportsBucket, exportfiles.Folder)
}

// inDataFolder returns the name, or that of a folder in the data folder if it is "".
func inDataFolder(o Options, name, folder string) (string, error) {
	if name != "" {
		return name, nil
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return "", fmt.Errorf("the data folder: %w", err)
	}
	return config.LocalFolder + filepath.Join(data, folder), nil
}

// masterKey returns the name of the key that wraps the tenants' keys.
func masterKey(o Options) (string, error) {
	return inDataFolder(o, o.MasterKey, "")
}

func (e *engine) useOutside(ctx context.Context, named config.Engines) error {
	if len(named.MongoURI) > 0 {
		if err := records.Use(&e.stores, named); err != nil {
			return err
		}
	}
	if len(named.OpenSearchURL) > 0 {
		if err := searchindex.Use(&e.stores, named); err != nil {
			return err
		}
	}
	if !named.NamesQueues() {
		return nil
	}
	sqs := queues.New(named)
	e.queue, e.named = func(name manifest.QueueName) queue { return sqsSource{sqs.Queue(name)} }, sqs.Named
	queues.Use(&e.stores, named)
	return sqs.Ensure(ctx)
}

// allOutside reports whether no part of the embedded engine is used.
func allOutside(named config.Engines) bool {
	return len(named.MongoURI) > 0 && len(named.OpenSearchURL) > 0 && named.NamesQueues()
}

func anyOutside(named config.Engines) bool {
	return len(named.MongoURI) > 0 || len(named.OpenSearchURL) > 0 || named.NamesQueues()
}

// checkLambda refuses combinations of engines that no function binary is built for.
func checkLambda(o Options) error {
	if o.Lambda != nil && anyOutside(o.Engines) && !allOutside(o.Engines) {
		return errors.New("the functions' binaries run over the embedded engine, or over MONGODB_URI, OPENSEARCH_URL and AWS_ENDPOINT_URL_SQS, all three")
	}
	return nil
}

// sqsSource is a queue of SQS.
type sqsSource struct{ *sqsqueue.Queue }

// receiveWait is how long a receive waits; its answer may take as long again, twice.
const receiveWait = time.Second

// DeleteAndReceive does not end with its context, but after at most three seconds: SQS
// hides the messages of an interrupted receive until their visibility timeout. It receives again
// until there is none, or a batch is full.
func (s sqsSource) DeleteAndReceive(ctx context.Context, receipts []string, max int, wait time.Duration) ([]sqlite.Message, error) {
	ctx = context.WithoutCancel(ctx)
	if len(receipts) > 0 {
		if err := s.Delete(ctx, receipts); err != nil {
			return nil, err
		}
	}
	batch, err := s.receiveOnce(ctx, max, min(wait, receiveWait))
	for received := len(batch); err == nil && received > 0 && len(batch) < max && sizeOf(batch) < sqlite.MaxReceived; {
		more, moreErr := s.receiveOnce(ctx, max-len(batch), 0)
		if moreErr != nil {
			break // what was received is handled first
		}
		batch, received = append(batch, more...), len(more)
	}
	return batch, err
}

func (s sqsSource) receiveOnce(ctx context.Context, max int, wait time.Duration) ([]sqlite.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*receiveWait)
	defer cancel()
	received, err := s.Receive(ctx, max, wait)
	messages := make([]sqlite.Message, len(received))
	for i, m := range received {
		messages[i] = sqlite.Message(m)
	}
	return messages, err
}

// sizeOf returns the length of all bodies, in bytes.
func sizeOf(messages []sqlite.Message) int {
	size := 0
	for _, m := range messages {
		size += len(m.Body)
	}
	return size
}

// open opens the file. It first opens it for this process alone: that shows that
// no other service uses the folder, and makes messages in flight visible again.
// If functions run in other processes, it then opens the file shared.
func open(ctx context.Context, o Options) (*sqlite.DB, error) {
	path := filepath.Join(o.Data, embedded.File)
	db, err := sqlite.Open(ctx, path)
	for deadline := time.Now().Add(inUseTimeout); errors.Is(err, sqlite.ErrInUse) && time.Now().Before(deadline); {
		pause(ctx, 20*time.Millisecond)
		db, err = sqlite.Open(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	err = db.Recover(ctx)
	if errors.Is(err, audit.ErrStorageFull) { // the service starts, so that something can be deleted
		o.Log.WarnContext(ctx, "some messages in flight return only after their visibility timeout", "error", err)
	} else if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if o.Lambda == nil || allOutside(o.Engines) {
		return db, nil
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, path, sqlite.WithSharedFile())
}
