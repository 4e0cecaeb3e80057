package httpapi

import (
	"encoding/json"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/cursor"
)

// trail is the place of a page in a list whose store goes forwards only: where
// each page up to this one began (the id before its first item), the list's
// beginning "" first. It is what lets prev lead back.
type trail []string

// maxTrail bounds a cursor's payload, in bytes. Where it is passed, the pages
// nearest to the beginning are forgotten: prev then leads from the oldest
// page that is known straight to the first.
const maxTrail = 2 << 10

// trailOf reads ?cursor= of the list.
func (req *request) trail(cursors *cursor.Signer, list string) (trail, error) {
	text := req.params.Get("cursor")
	if text == "" {
		return trail{""}, nil
	}
	payload, err := cursors.Parse(list, text)
	if err != nil {
		return nil, err
	}
	var t trail
	if err := json.Unmarshal(payload, &t); err != nil || len(t) == 0 {
		return nil, audit.Invalid("?cursor", "invalid_cursor", "must be a cursor that this list has given out")
	}
	return t, nil
}

// after is the id that the page begins after.
func (t trail) after() string { return t[len(t)-1] }

// links appends the cursors of the neighbouring pages; last is the id of the page's last item.
func (t trail) links(w *writer, cursors *cursor.Signer, list, last string, more bool) {
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

func (t trail) forwards(last string) trail {
	size := len(last)
	for _, id := range t {
		size += len(id) + len(`"",`)
	}
	longer := append(trail{}, t...)
	for size > maxTrail && len(longer) > 1 {
		size -= len(longer[1]) + len(`"",`)
		longer = append(longer[:1], longer[2:]...)
	}
	return append(longer, last)
}

func (t trail) sign(cursors *cursor.Signer, list string) string {
	payload, _ := json.Marshal(t) // strings never fail
	return cursors.Sign(list, payload)
}
