package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/stream"
)

const fieldIDs = "ids"

type segmentDocument struct {
	Key       string        `bson:"_id"` // see segmentKey
	Tenant    string        `bson:"tenant_id"`
	Number    int64         `bson:"number"`
	IDs       []bson.Binary `bson:"ids"`
	ExpiresAt time.Time     `bson:"expires_at"`
}

// segmentKey returns the _id of a segment. The keys of a tenant are in the order
// of the numbers, which are not negative.
func segmentKey(tenant audit.TenantID, number int64) string {
	return keyOf(tenant, fmt.Sprintf("%019d", number))
}

func segmentsAfter(tenant audit.TenantID, number int64) bson.D {
	return bson.D{{Key: fieldKey, Value: bson.D{
		{Key: "$gt", Value: segmentKey(tenant, number)}, {Key: "$lte", Value: segmentKey(tenant, math.MaxInt64)},
	}}}
}

func readSegment(raw bson.Raw) (segmentDocument, error) {
	var doc segmentDocument
	if err := bson.Unmarshal(raw, &doc); err != nil {
		return doc, fmt.Errorf("a segment %w", errStored)
	}
	return doc, nil
}

func (s *segmentDocument) ids() ([]audit.EntryID, error) {
	ids := make([]audit.EntryID, len(s.IDs))
	for i, id := range s.IDs {
		if len(id.Data) != len(ids[i]) {
			return nil, fmt.Errorf("an id of a segment %w", errStored)
		}
		copy(ids[i][:], id.Data)
	}
	return ids, nil
}

// lastSegment returns the highest number of a segment after the given number. It
// returns the given number if there is none.
func (l *StreamLog) lastSegment(ctx context.Context, tenant audit.TenantID, after int64) (int64, error) {
	descending := bson.D{{Key: fieldKey, Value: -1}}
	err := l.db.list(ctx, collectionSegments, indexID, descending, 1, segmentsAfter(tenant, after), func(doc bson.Raw) (more bool, err error) {
		s, err := readSegment(doc)
		after = s.Number
		return true, err
	})
	return after, err
}

// Append implements stream.Log.
func (l *StreamLog) Append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	err := l.db.ensureSegments(ctx)
	if err == nil {
		err = retryContended(ctx, func() (done bool, err error) { return l.append(ctx, tenant, ids) })
	}
	if err != nil {
		return fmt.Errorf("append to the stream of %s: %w", tenant, err)
	}
	return nil
}

// append is not done if another worker inserted the next segment first.
//
// It reads the number of the last segment before it looks for the ids, so that
// each id is appended once. A segment that is inserted between the two steps has
// the next number, and the insert below fails.
func (l *StreamLog) append(ctx context.Context, tenant audit.TenantID, ids []audit.EntryID) (done bool, err error) {
	now := l.db.now()
	h, err := l.head(ctx, tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case !h.Until.After(now):
		return true, nil
	}
	newIDs, err := l.withoutAppended(ctx, tenant, h.Opened, ids)
	if err != nil || len(newIDs) == 0 {
		return err == nil, err
	}
	number := h.Number + 1
	err = l.db.insertOne(ctx, collectionSegments, segmentDocument{
		Key: segmentKey(tenant, number), Tenant: string(tenant), Number: number, IDs: newIDs, ExpiresAt: now.Add(stream.Retention),
	})
	if errors.Is(err, audit.ErrConflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, l.raiseHead(ctx, tenant, number)
}

// withoutAppended returns the ids, each once, that no segment since the opening has.
func (l *StreamLog) withoutAppended(ctx context.Context, tenant audit.TenantID, opened int64, ids []audit.EntryID) ([]bson.Binary, error) {
	all := make([]bson.Binary, len(ids))
	for i, id := range ids {
		all[i] = bson.Binary{Data: id[:]}
	}
	seen, err := l.appendedIDs(ctx, tenant, opened, all)
	if err != nil {
		return nil, err
	}
	var rest []bson.Binary
	for i, id := range ids {
		if !seen[id] {
			seen[id] = true
			rest = append(rest, all[i])
		}
	}
	return rest, nil
}

// appendedIDs returns all ids of the segments since the opening that have one of the ids.
func (l *StreamLog) appendedIDs(ctx context.Context, tenant audit.TenantID, opened int64, ids []bson.Binary) (map[audit.EntryID]bool, error) {
	appended := make(map[audit.EntryID]bool, len(ids))
	query := append(ofTenant(tenant),
		bson.E{Key: fieldIDs, Value: bson.D{{Key: "$in", Value: ids}}}, bson.E{Key: fieldNumber, Value: bson.D{{Key: "$gt", Value: opened}}})
	o := options.Find().SetHint(indexStreamID).SetProjection(ascending(fieldIDs))
	err := l.db.find(ctx, collectionSegments, query, o, func(doc bson.Raw) (bool, error) {
		s, err := readSegment(doc)
		if err != nil {
			return false, err
		}
		segment, err := s.ids()
		for _, id := range segment {
			appended[id] = true
		}
		return true, err
	})
	return appended, err
}

// Read implements stream.Log. The segments of a closed stream can be read until they expire.
func (l *StreamLog) Read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]stream.Segment, error) {
	segments, err := l.read(ctx, tenant, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the stream of %s after %d: %w", tenant, after, err)
	}
	return segments, nil
}

func (l *StreamLog) read(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]stream.Segment, error) {
	if after < 0 {
		return nil, stream.ErrExpired
	}
	for range 2 {
		segments, err := l.segments(ctx, tenant, after, limit)
		if err != nil {
			return nil, err
		}
		// The head is read after the segments. If the position lies in its opening,
		// the segments belong to that opening too.
		h, err := l.readHead(ctx, tenant)
		if errors.Is(err, audit.ErrNotFound) {
			return nil, stream.ErrExpired
		}
		if err != nil {
			return nil, err
		}
		if n := len(segments); n > 0 && segments[n-1].Number > h.Number {
			h.Number = segments[n-1].Number
			if err := l.raiseHead(ctx, tenant, h.Number); err != nil {
				return nil, err
			}
		}
		switch {
		case after < h.Opened || after > h.Number:
			return nil, stream.ErrExpired
		case len(segments) > 0:
			return l.contiguous(segments, after, limit)
		case after == h.Number:
			return nil, nil
		}
		// The next segment expired, or was appended after the segments were read. The
		// second attempt shows which.
	}
	return nil, stream.ErrExpired
}

// segments returns the first segments after the number, up to limit but at least
// one. Numbers may be missing between them.
func (l *StreamLog) segments(ctx context.Context, tenant audit.TenantID, after int64, limit int) ([]segmentDocument, error) {
	var segments []segmentDocument
	query := segmentsAfter(tenant, after)
	err := l.db.list(ctx, collectionSegments, indexID, ascending(fieldKey), max(limit, 1), query, func(doc bson.Raw) (more bool, err error) {
		s, err := readSegment(doc)
		segments = append(segments, s)
		return true, err
	})
	return segments, err
}

// contiguous returns the segments before the first that is missing or expired.
func (l *StreamLog) contiguous(segments []segmentDocument, after int64, limit int) ([]stream.Segment, error) {
	var run []stream.Segment
	for _, s := range segments {
		if s.Number != after+1+int64(len(run)) || !s.ExpiresAt.After(l.db.now()) {
			break
		}
		ids, err := s.ids()
		if err != nil {
			return nil, err
		}
		run = append(run, stream.Segment{Number: s.Number, IDs: ids})
	}
	if len(run) == 0 {
		return nil, stream.ErrExpired
	}
	return run[:min(max(limit, 0), len(run))], nil
}
