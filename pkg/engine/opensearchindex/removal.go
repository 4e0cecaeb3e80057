package opensearchindex

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// An index of a past month that has no entries left is removed as a whole. A removal takes a lock of
// its own first: an empty index whose name has a token and the name of the index to remove.
//
//	lock → block writes → refresh and count → delete the index and the lock in one request
//	                                        ↘ or it has entries: unblock, then delete the lock
//
// No acknowledged entry is removed. A write that came before the block is counted, and OpenSearch
// refuses a later one: Put sends it again, which creates the index by its template. Each request that
// blocks, unblocks or deletes the index names the lock too, and OpenSearch changes none of them if one is
// missing. So a removal that slept does nothing: whoever takes its lock over deletes the lock first. That
// is why the lock is an index: no other request fails as a whole in every version.
//
// Each index that a removal has blocked has a lock. If a lock is older than Index.lockTime by OpenSearch's
// clock, its process was killed: the next run, or a Put that meets the block, unblocks the index.
const (
	// closeAfter is how long after the end of its month an index can be removed.
	closeAfter = 8 * 24 * time.Hour
	// defaultLockTime is after which a lock is taken over. It is longer than a removal takes.
	defaultLockTime = 5 * time.Minute
	// removalTimeout bounds the steps of a removal, and again those that undo it after a failure.
	removalTimeout = 90 * time.Second
	// blockTimeout is how long OpenSearch waits for each step of a block. It is shorter than
	// Timeouts.Write, so that this process gets the answer.
	blockTimeout = "5s"
	// maxRemovals bounds the indexes of one run. Each takes about a second.
	maxRemovals = 200
	tokenBytes  = 8
)

var (
	// errLocked says that another process removes the index, or has just tried to.
	errLocked = errors.New("another process removes the index")
	// errLostLock says that another process has deleted the lock.
	errLostLock = errors.New("another process has deleted the lock")
)

// lock is the lock of one removal.
type lock struct {
	name, index string
	createdAt   time.Time
}

// both names the index and its lock in a request, which fails if one of them is missing.
func (l *lock) both() string { return "/" + l.index + "," + l.name }

func (x *Index) lockPrefix() string { return x.config.Prefix + "-removal-" }

// newLock returns a lock for an index, which has a token that no other has.
func (x *Index) newLock(index string) lock {
	token := make([]byte, tokenBytes)
	_, _ = rand.Read(token) // never fails
	return lock{name: x.lockPrefix() + hex.EncodeToString(token) + strings.TrimPrefix(index, x.config.Prefix), index: index}
}

// readLock returns the lock with this name, if it is one.
func (x *Index) readLock(name string) (lock, bool) {
	rest, ok := strings.CutPrefix(name, x.lockPrefix())
	if !ok || len(rest) <= 2*tokenBytes {
		return lock{}, false
	}
	return lock{name: name, index: x.config.Prefix + rest[2*tokenBytes:]}, true
}

// listed is an index in OpenSearch's list.
type listed struct {
	name      string
	documents int64 // -1: unknown
	createdAt time.Time
}

// list returns the open indexes that a path names.
func (x *Index) list(ctx context.Context, path string) ([]listed, error) {
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodGet, path: "/_cat/indices/" + path, query: url.Values{
		"format": {"json"}, "h": {"index,docs.count,creation.date"}, "expand_wildcards": {"open,hidden"},
	}})
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Index     string `json:"index"`
		Documents string `json:"docs.count"`
		CreatedAt string `json:"creation.date"`
	}
	if err := json.Unmarshal(body, &rows); err != nil {
		return nil, unexpectedResponse(err)
	}
	indexes := make([]listed, len(rows))
	for i, row := range rows {
		created, err := strconv.ParseInt(row.CreatedAt, 10, 64)
		if err != nil {
			return nil, unexpectedResponse(err)
		}
		documents, err := strconv.ParseInt(row.Documents, 10, 64)
		if err != nil {
			documents = -1 // its shards do not answer now
		}
		indexes[i] = listed{name: row.Index, documents: documents, createdAt: time.UnixMilli(created)}
	}
	return indexes, nil
}

// locks returns the locks, of one index unless it is "".
func (x *Index) locks(ctx context.Context, index string) ([]lock, error) {
	found, err := x.list(ctx, x.lockPrefix()+"*")
	if err != nil {
		return nil, fmt.Errorf("list the removals of indexes: %w", err)
	}
	var locks []lock
	for _, i := range found {
		if l, ok := x.readLock(i.name); ok && (index == "" || l.index == index) {
			l.createdAt = i.createdAt
			locks = append(locks, l)
		}
	}
	return locks, nil
}

// RemoveEmptyIndexes removes the indexes of past months that have no entries, up to 200, and returns
// their names. It also undoes removals whose process was killed. Several calls at the same time do
// no harm.
func (x *Index) RemoveEmptyIndexes(ctx context.Context) (removed []string, err error) {
	var failures []error
	locks, err := x.locks(ctx, "")
	failures = append(failures, err)
	for _, l := range locks {
		failures = append(failures, x.undoRemoval(ctx, l.index))
	}
	empty, err := x.emptyIndexes(ctx)
	failures = append(failures, err)
	for _, index := range empty {
		if ctx.Err() != nil {
			failures = append(failures, ctx.Err())
			break
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < 2*removalTimeout {
			break // what is left is for the next run: a removal that is killed leaves its index blocked
		}
		gone, err := x.removeIfEmpty(ctx, index)
		if err != nil && !errors.Is(err, errLocked) {
			failures = append(failures, fmt.Errorf("%s: %w", index, err))
		}
		if gone {
			removed = append(removed, index)
		}
	}
	if err := errors.Join(failures...); err != nil {
		return removed, fmt.Errorf("remove empty indexes: %w", err)
	}
	return removed, nil
}

// emptyIndexes returns indexes of past months that seem to be empty, the earliest created first.
func (x *Index) emptyIndexes(ctx context.Context) ([]string, error) {
	found, err := x.list(ctx, x.config.Prefix+"-t-*,"+x.config.Prefix+"-p*")
	if err != nil {
		return nil, err
	}
	now := x.config.Now()
	found = slices.DeleteFunc(found, func(i listed) bool {
		end, ok := x.monthEnd(i.name)
		return !ok || i.documents != 0 || now.Before(end.Add(closeAfter)) || now.Before(i.createdAt.Add(closeAfter))
	})
	slices.SortFunc(found, func(a, b listed) int { return cmp.Or(a.createdAt.Compare(b.createdAt), cmp.Compare(a.name, b.name)) })
	var names []string
	for _, i := range found[:min(len(found), maxRemovals)] {
		names = append(names, i.name)
	}
	return names, nil
}

// monthEnd returns the end of the month in the name of an index with entries.
func (x *Index) monthEnd(index string) (end time.Time, ok bool) {
	rest, ok := strings.CutPrefix(index, x.config.Prefix+"-")
	if !ok {
		return end, false
	}
	stem, month := rest[:max(0, len(rest)-len("2006.01"))], rest[max(0, len(rest)-len("2006.01")):]
	own, isOwn := strings.CutPrefix(strings.TrimSuffix(stem, "."), "t-")
	pool := strings.TrimSuffix(stem, "-")
	begin, err := time.Parse("2006.01", month)
	if isOwn {
		_, invalid := audit.ParseTenantID(own)
		isOwn = invalid == nil && x.ownFamily(audit.TenantID(own)).index(month) == index
	}
	isPool := audit.IsPool(pool) && x.poolFamily(pool).index(month) == index
	return begin.AddDate(0, 1, 0), err == nil && (isOwn || isPool)
}

// acquire takes the lock of an index. Those that hold a lock that is not stale go first, and
// errLocked is the error. Stale locks are deleted: their removals delete nothing from then on.
func (x *Index) acquire(ctx context.Context, index string) (lock, error) {
	mine := x.newLock(index)
	err := x.createLock(ctx, &mine, 0)
	var response *responseError
	if errors.As(err, &response) && response.status == http.StatusBadRequest && x.config.Replicas > 0 {
		err = x.createLock(ctx, &mine, x.config.Replicas)
	}
	if err != nil {
		return lock{}, err
	}
	stale, err := x.staleBeside(ctx, &mine)
	if err != nil { // nothing is blocked under this lock
		return lock{}, errors.Join(err, x.release(ctx, mine))
	}
	for _, l := range stale {
		if err := x.release(ctx, l); err != nil {
			return lock{}, err
		}
	}
	return mine, nil
}

// createLock creates a lock. Without replicas it needs only one shard of those that the cluster may have. A
// domain of several zones with standby refuses an index without the replicas that it asks for.
func (x *Index) createLock(ctx context.Context, l *lock, replicas int) error {
	settings := map[string]any{"number_of_shards": 1, "number_of_replicas": replicas, "hidden": true}
	err := x.manage(ctx, http.MethodPut, "/"+l.name, map[string]any{"settings": map[string]any{"index": settings}})
	var response *responseError
	if errors.As(err, &response) && response.has(kindExists) { // an answer was lost
		return nil
	}
	return err
}

// staleBeside returns the other locks of the same index if all are stale, and otherwise errLocked.
func (x *Index) staleBeside(ctx context.Context, mine *lock) ([]lock, error) {
	locks, err := x.locks(ctx, mine.index)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(locks, func(l lock) bool { return l.name == mine.name })
	if i < 0 {
		return nil, errLostLock
	}
	mine.createdAt = locks[i].createdAt
	stale := slices.Delete(locks, i, i+1)
	for _, l := range stale {
		if mine.createdAt.Sub(l.createdAt) <= x.lockTime {
			return nil, errLocked
		}
	}
	return stale, nil
}

// release deletes a lock.
func (x *Index) release(ctx context.Context, l lock) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalTimeout)
	defer cancel()
	err := x.manage(ctx, http.MethodDelete, "/"+l.name, nil)
	if isNotFound(err) {
		return nil
	}
	return err
}

// removeIfEmpty removes an index, unless it has entries. If it returns an error, the index can be
// blocked until the lock is stale.
func (x *Index) removeIfEmpty(ctx context.Context, index string) (removed bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	mine, err := x.acquire(bounded, index)
	if err != nil {
		return false, err
	}
	empty, err := x.blockIfEmpty(bounded, &mine)
	if err == nil && empty {
		if err = x.manage(bounded, http.MethodDelete, mine.both(), nil); err == nil {
			return true, nil
		}
	}
	if isNotFound(err) { // the index, or the lock
		err = nil
	}
	undo := x.unblock(ctx, mine)
	if errors.Is(undo, errLostLock) { // whoever took it over unblocks the index, or was killed
		undo = x.undoRemoval(ctx, index)
	}
	return false, errors.Join(err, undo)
}

// blockIfEmpty blocks writes to the index of a lock and reports whether it has no entries then. OpenSearch
// answers once all writes before the block are done.
func (x *Index) blockIfEmpty(ctx context.Context, mine *lock) (bool, error) {
	if err := x.block(ctx, mine); err != nil {
		return false, err
	}
	index := mine.index
	body, err := x.sendWrite(ctx, httpRequest{method: http.MethodPost, path: "/" + index + "/_refresh"})
	if err != nil {
		return false, err
	}
	if err := checkShards(body, index); err != nil {
		return false, err
	}
	n, err := x.countIndex(ctx, index)
	return n == 0, err
}

// block blocks writes to the index of a lock, and to the lock. OpenSearch adds a temporary block first. Once every copy of every
// shard has confirmed it, it is replaced by the block that index.blocks.write describes. If a copy
// does not confirm it in time, OpenSearch answers 200, and the temporary block stays. Only another
// request can replace it.
func (x *Index) block(ctx context.Context, mine *lock) error {
	r := httpRequest{method: http.MethodPut, path: mine.both() + "/_block/write", query: url.Values{"timeout": {blockTimeout}}}
	_, err := retry(ctx, x.config.WriteBudget, func() ([]byte, error) {
		body, err := x.sendWithin(ctx, x.config.Timeouts.Write, r)
		if err == nil {
			err = checkBlocked(body, mine.index)
		}
		return body, err
	})
	return withReason(err)
}

// checkBlocked returns an error if the index is not blocked. The answer omits indexes that were before.
func checkBlocked(body []byte, index string) error {
	var response struct {
		Indices []struct {
			Name    string `json:"name"`
			Blocked bool   `json:"blocked"`
		} `json:"indices"`
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return unexpectedResponse(err)
	}
	for _, i := range response.Indices {
		if i.Name == index && !i.Blocked {
			return fmt.Errorf("OpenSearch has not blocked writes to all shards of %s", i.Name)
		}
	}
	return nil
}

// unblock lets writers into the index of a lock, and releases the lock. It does nothing if another
// process has taken the lock over: that process unblocks the index, or relies on the block. It blocks
// the index again first: the setting does not remove the temporary block of a request that failed.
// If it returns an error, it keeps the lock, and whoever takes the lock over tries again.
func (x *Index) unblock(ctx context.Context, mine lock) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalTimeout)
	defer cancel()
	locks, err := x.locks(ctx, mine.index)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(locks, func(l lock) bool { return l.name == mine.name }) {
		return errLostLock
	}
	if err = x.block(ctx, &mine); err == nil {
		err = x.manage(ctx, http.MethodPut, mine.both()+"/_settings", map[string]any{"index.blocks.write": nil})
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	return x.release(ctx, mine)
}

// undoRemoval unblocks an index whose removal was killed. It does nothing if a removal goes on.
func (x *Index) undoRemoval(ctx context.Context, index string) error {
	mine, err := x.acquire(ctx, index)
	if errors.Is(err, errLocked) {
		return nil
	}
	if err == nil {
		err = x.unblock(ctx, mine)
	}
	if err != nil {
		return fmt.Errorf("undo the removal of %s: %w", index, err)
	}
	return nil
}
