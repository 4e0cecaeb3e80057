package httpapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// pagePath is the position of a page in a list whose store only reads forwards.
// It has one element for each page up to this one: the id before the page's first
// item. The first element is "", the beginning of the list. It makes prev possible.
type pagePath []string

// maxPagePath limits a cursor's payload, in bytes. A longer path drops the pages
// after the first. From the oldest page that is left, prev leads to the first page.
const maxPagePath = 2 << 10

// pagePath reads ?cursor= of the list.
func (req *request) pagePath(cursors *cursor.Signer, list string) (pagePath, error) {
	text := req.params.Get("cursor")
	if text == "" {
		return pagePath{""}, nil
	}
	payload, err := cursors.Parse(list, text)
	if err != nil {
		return nil, err
	}
	var t pagePath
	if err := json.Unmarshal(payload, &t); err != nil || len(t) == 0 {
		return nil, audit.Invalid("?cursor", "invalid_cursor", "must be a cursor from a page of this list")
	}
	return t, nil
}

// after is the id that the page begins after.
func (t pagePath) after() string { return t[len(t)-1] }

// links appends the cursors of the neighbouring pages; last is the id of the page's last item.
func (t pagePath) links(w *writer, cursors *cursor.Signer, list, last string, more bool) {
	var next, prev string
	if more {
		next = t.forwards(last).sign(cursors, list)
	}
	if len(t) > 1 {
		prev = t[:len(t)-1].sign(cursors, list)
	}
	w.cursor("next", next)
	w.cursor("prev", prev)
}

func (t pagePath) forwards(last string) pagePath {
	size := len(last)
	for _, id := range t {
		size += len(id) + len(`"",`)
	}
	longer := append(pagePath{}, t...)
	for size > maxPagePath && len(longer) > 1 {
		size -= len(longer[1]) + len(`"",`)
		longer = append(longer[:1], longer[2:]...)
	}
	return append(longer, last)
}

func (t pagePath) sign(cursors *cursor.Signer, list string) string {
	payload, _ := json.Marshal(t) // strings never fail
	return cursors.Sign(list, payload)
}

// positionText is an element of a page path for a list by time of creation: Unix milliseconds,
// a space, and the item's id.
func positionText(created time.Time, id string) string {
	return strconv.FormatInt(created.UnixMilli(), 10) + " " + id
}

// parsePosition reads a positionText.
func parsePosition(text string) (created time.Time, id string, err error) {
	millisText, id, _ := strings.Cut(text, " ")
	millis, err := strconv.ParseInt(millisText, 10, 64)
	if err != nil {
		return time.Time{}, "", audit.Invalid("?cursor", "invalid_cursor", "must be a cursor from a page of this list")
	}
	return time.UnixMilli(millis).UTC(), id, nil
}

// position is a place in a list by time of creation, as jobs.Position and tenants.KeyPosition are.
type position struct {
	CreatedAt time.Time
	ID        string
}

// byCreation returns the read of pageOf for such a list. A nil position is its beginning.
func byCreation[T any](read func(after *position, limit int) ([]T, bool, error)) func(after string, limit int) ([]T, bool, error) {
	return func(after string, limit int) ([]T, bool, error) {
		if after == "" {
			return read(nil, limit)
		}
		created, id, err := parsePosition(after)
		if err != nil {
			return nil, false, err
		}
		return read(&position{created, id}, limit)
	}
}

// pageOf answers a request for a page of a list, whose cursors are valid for its name. read and
// appendItem are those of appendPage.
func pageOf[T any](
	req *request, cursors *cursor.Signer, list string, limit int,
	read func(after string, limit int) ([]T, bool, error), appendItem func(w *writer, item *T) (id string),
) (*response, error) {
	pagePath, err := req.pagePath(cursors, list)
	if err != nil {
		return nil, err
	}
	w := writer{b: make([]byte, 0, 128+512*min(limit, readPart))}
	w.open('{')
	w.name("items")
	w.open('[')
	last, more, err := appendPage(&w, pagePath.after(), limit, read, appendItem)
	if err != nil {
		return nil, err
	}
	w.close(']')
	pagePath.links(&w, cursors, list, last, more)
	w.close('}')
	return jsonResponse(http.StatusOK, &w), nil
}

// readPart is how many items a list reads at once. The largest have 256 KiB each.
const readPart = 50

// appendPage appends up to limit items of a list that read returns in parts. It ends
// before audit.MaxItemsBytes, but not before the first item. appendItem returns the id
// of the item, and may append nothing. last is the id of the last item.
func appendPage[T any](
	w *writer, after string, limit int, read func(after string, limit int) ([]T, bool, error), appendItem func(w *writer, item *T) (id string),
) (last string, more bool, err error) {
	begin, first := len(w.b), true
	for more = true; more && limit > 0; {
		var items []T
		if items, more, err = read(after, min(limit, readPart)); err != nil {
			return "", false, err
		}
		for i := range items {
			start := len(w.b)
			id := appendItem(w, &items[i])
			if len(w.b)-begin > audit.MaxItemsBytes && !first {
				w.b = w.b[:start]
				return last, true, nil
			}
			last, after, first = id, id, false
		}
		limit -= len(items)
	}
	return last, more, nil
}
