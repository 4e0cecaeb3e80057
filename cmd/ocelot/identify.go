package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ocelot-audit/ocelot/pkg/audit"
)

// identifier gives an identity to entries that have none, so that sending them
// again stores nothing twice.
type identifier struct {
	now    func() time.Time
	random func(b []byte)
	// key returns the key of the hashes of lines.
	key func() ([]byte, error)
	mac hash.Hash // under the key; nil until it is needed
	// equal numbers the equal lines of a run.
	equal occurrences
}

// member is where a top-level member's value stands in a line.
type member struct {
	given      bool // it is there and not null
	null       bool
	start, end int
}

// lineKeyPrefix begins the idempotency keys that lines get.
const lineKeyPrefix = "hmac-sha256:"

// identify returns the line with an identity. One that has an id or an
// idempotency key stays as it is. One with a timestamp gets a keyed hash of the line
// as its key, and its number if equal lines came before it in this run. So equal
// lines are as many entries, and sending them again adds none. The hash is keyed
// because everybody may read it: it must not tell whether a guess of a secret in
// the line is right. One without a timestamp
// gets the time and a random id: repeating a request stores it once, but sending
// the file again stores it a second time. A line that is not a JSON object stays as
// it is: the service refuses it.
func (i *identifier) identify(line []byte) ([]byte, error) {
	members, ok := topLevel(line)
	if !ok || members["id"].given || members["idempotency_key"].given {
		return line, nil
	}
	if members["timestamp"].given {
		sum, err := i.sum(line)
		if err != nil {
			return nil, err
		}
		key := lineKeyPrefix + hex.EncodeToString(sum[:])
		if n := i.equal.next(sum); n > 1 {
			key += ":" + strconv.FormatUint(uint64(n), 10)
		}
		return with(line, members, map[string]string{"idempotency_key": key}), nil
	}
	now := i.now().UTC().Truncate(time.Millisecond)
	return with(line, members, map[string]string{
		"id": audit.RandomEntryID(now, i.random).String(), "timestamp": now.Format("2006-01-02T15:04:05.000Z"),
	}), nil
}

// sum returns the keyed hash of a line.
func (i *identifier) sum(line []byte) (sum [sha256.Size]byte, err error) {
	if i.mac == nil {
		key, err := i.key()
		if err != nil {
			return sum, err
		}
		i.mac = hmac.New(sha256.New, key)
	}
	i.mac.Reset()
	i.mac.Write(line)
	i.mac.Sum(sum[:0])
	return sum, nil
}

// topLevel finds the members that make an identity; ok is false if the line
// is not a JSON object.
func topLevel(line []byte) (members map[string]member, ok bool) {
	decoder := jsontext.NewDecoder(bytes.NewReader(line), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if decoder.PeekKind() != '{' {
		return nil, false
	}
	if _, err := decoder.ReadToken(); err != nil {
		return nil, false
	}
	members = make(map[string]member, 3)
	for decoder.PeekKind() == '"' {
		token, err := decoder.ReadToken()
		if err != nil {
			return nil, false
		}
		name := token.String()
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, false
		}
		if name == "id" || name == "idempotency_key" || name == "timestamp" {
			end := int(decoder.InputOffset())
			members[name] = member{given: value.Kind() != 'n', null: value.Kind() == 'n', start: end - len(value), end: end}
		}
	}
	_, err := decoder.ReadToken()
	return members, err == nil
}

// with sets members of the line that are not there or null. The values need no escapes.
func with(line []byte, members map[string]member, values map[string]string) []byte {
	type edit struct {
		start, end int
		text       string
	}
	var edits []edit
	open := bytes.IndexByte(line, '{') + 1
	follows := bytes.TrimLeft(line[open:], " \t\r")[0] != '}'
	for _, name := range []string{"id", "timestamp", "idempotency_key"} {
		value, wanted := values[name]
		switch m := members[name]; {
		case !wanted:
		case m.null:
			edits = append(edits, edit{m.start, m.end, `"` + value + `"`})
		default:
			text := `"` + name + `":"` + value + `"`
			if follows {
				text += ","
			}
			edits = append(edits, edit{open, open, text})
			follows = true
		}
	}
	// From the end, so that no edit moves the place of another. Of two edits at the same
	// place, the later one is inserted first and ends in its comma.
	slices.SortStableFunc(edits, func(a, b edit) int { return b.start - a.start })
	out := slices.Clone(line)
	for _, e := range edits {
		out = slices.Concat(out[:e.start], []byte(e.text), out[e.end:])
	}
	return out
}
