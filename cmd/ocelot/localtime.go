package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// localFlag shows times in the zone of this machine.
type localFlag struct {
	Local bool `help:"Show times in the time zone of this machine, and read dates in --since and --until in it."`
}

// in returns the zone of the machine if it was chosen, else nil.
func (f *localFlag) in(con *console) *time.Location {
	if !f.Local {
		return nil
	}
	return con.zone
}

// wrap returns a printer that shows times in the zone that was chosen.
func (f *localFlag) wrap(con *console, printer entryPrinter) entryPrinter {
	if zone := f.in(con); zone != nil {
		return &localPrinter{printer, zone}
	}
	return printer
}

// localPrinter prints entries with their own times in a zone. Times in what a client sent, such
// as metadata, stay as they are.
type localPrinter struct {
	entryPrinter
	zone *time.Location
}

func (p *localPrinter) page(items []json.RawMessage) error {
	local := make([]json.RawMessage, len(items))
	for i, item := range items {
		var err error
		if local[i], err = inZone(item, p.zone); err != nil {
			return fmt.Errorf("the answer has an entry that cannot be read: %w", err)
		}
	}
	return p.entryPrinter.page(local)
}

// timeMembers are the members of an entry that are times.
var timeMembers = []string{"timestamp", "received_at", "expires_at"}

// inZone returns the entry with its times in the zone, and everything else as it is spelled.
func inZone(entry json.RawMessage, zone *time.Location) (json.RawMessage, error) {
	decoder := jsontext.NewDecoder(bytes.NewReader(entry))
	if _, err := decoder.ReadToken(); err != nil {
		return nil, err
	}
	var out []byte
	copied := 0
	for decoder.PeekKind() == '"' {
		name, err := decoder.ReadToken()
		if err != nil {
			return nil, err
		}
		member := name.String()
		value, err := decoder.ReadValue()
		if err != nil {
			return nil, err
		}
		if value.Kind() != '"' || !slices.Contains(timeMembers, member) {
			continue
		}
		at, err := time.Parse(`"`+time.RFC3339Nano+`"`, string(value))
		if err != nil {
			return nil, err
		}
		end := int(decoder.InputOffset())
		out = append(out, entry[copied:end-len(value)]...)
		out = at.In(zone).AppendFormat(out, `"2006-01-02T15:04:05.000Z07:00"`)
		copied = end
	}
	return append(out, entry[copied:]...), nil
}
