package protect

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/audit"
	"github.com/ocelot-audit/ocelot/pkg/entryjson"
)

const (
	// MaxMatches is the most values that one search matches.
	MaxMatches = 16
	// ActionMatch is the action of the record of a search by encrypted values.
	ActionMatch = "log.match_encrypted"
)

// Match asks for the entries that were stored with a value at a dotted path.
type Match struct {
	Path string
	Kind ValueKind
	// Value is a string's content, the text of a number, true or false.
	Value string
}

// KeyMatcher has the keys that tokens are made with, and knows which keys were destroyed. See
// Keyring.
type KeyMatcher interface {
	KeyOpener
	// Existing returns the keys of a tenant. It returns audit.ErrNotFound if it has none yet.
	Existing(ctx context.Context, tenant audit.TenantID) (*TenantKeys, error)
}

// Matcher finds entries by encrypted values for callers who may do so.
type Matcher struct {
	Keys     KeyMatcher
	Recorder audit.Recorder
}

// Tokens returns what entries with all of the values have. If the tenant has no keys, it has no
// encrypted values, and no entry has these tokens.
func (m *Matcher) Tokens(ctx context.Context, tenant audit.TenantID, matches []Match) ([]audit.ValueToken, error) {
	tokens := make([]audit.ValueToken, len(matches))
	keys, err := m.Keys.Existing(ctx, tenant)
	switch {
	case errors.Is(err, audit.ErrNotFound), errors.Is(err, ErrDestroyed):
		return tokens, nil
	case err != nil:
		return nil, err
	}
	for i, match := range matches {
		tokens[i] = keys.Token(match.Path, match.Kind, match.Value)
	}
	return tokens, nil
}

// Unerased returns the entries that have the tokens beside values whose keys exist. The index can
// have a token for some time after its key was destroyed.
func (m *Matcher) Unerased(ctx context.Context, tenant audit.TenantID, tokens []audit.ValueToken, entries []audit.Entry) ([]audit.Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	keys, err := m.Keys.Opening(ctx, tenant, refsOf(entries))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e audit.Entry) bool {
		return slices.ContainsFunc(tokens, func(token audit.ValueToken) bool { return !hasUnerased(&e, token, keys.Destroyed) })
	}), nil
}

func hasUnerased(e *audit.Entry, token audit.ValueToken, destroyed map[KeyRef]bool) bool {
	return slices.ContainsFunc(e.Encrypted, func(part audit.Encrypted) bool {
		ref, err := RefOf(&part)
		return err == nil && !destroyed[ref] && slices.Contains(part.Tokens, token)
	})
}

// Record records the answer to a search in the tenant's log: who asked, at which paths, and which
// entries were found. It has neither values nor tokens.
func (m *Matcher) Record(ctx context.Context, tenant audit.Tenant, by string, matches []Match, entries []audit.Entry) error {
	var found recordedEntries
	for i := range entries {
		found.add(entries[i].ID)
	}
	paths := make([]string, len(matches))
	for i, match := range matches {
		paths[i] = match.Path
	}
	metadata := entryjson.AppendTexts([]byte(`{"paths":`), paths)
	metadata = append(found.appendTo(append(metadata, ',')), '}')
	return audit.Record(ctx, m.Recorder, tenant, audit.Entry{
		UserID: by, Action: ActionMatch, ResourceType: "log", Severity: audit.SeverityWarning, Metadata: metadata,
	})
}

// recordedEntries are the entries that a record names.
type recordedEntries struct {
	Entries int      `json:"entries"`
	IDs     []string `json:"ids,omitempty"` // of up to maxRecordedIDs
}

func (r *recordedEntries) add(id audit.EntryID) {
	if r.Entries++; len(r.IDs) < maxRecordedIDs {
		r.IDs = append(r.IDs, id.String())
	}
}

// appendTo appends the members entries and ids.
func (r *recordedEntries) appendTo(metadata []byte) []byte {
	metadata = strconv.AppendInt(append(metadata, `"entries":`...), int64(r.Entries), 10)
	return entryjson.AppendTexts(append(metadata, `,"ids":`...), r.IDs)
}

// IsSearchable reports whether values at a dotted path of an entry get tokens.
func (r *Rules) IsSearchable(path string) bool {
	if r == nil {
		return false
	}
	field, names, nested := strings.Cut(path, ".")
	if !nested {
		rule, covers := r.texts[field]
		return covers && r.fields[rule].Searchable
	}
	if field != entryjson.NameMetadata && field != entryjson.NameBefore && field != entryjson.NameAfter {
		return false
	}
	m := masking{Rules: r}
	if root := r.objects[field]; root != nil {
		m.nodes = append(m.nodes, root)
	}
	at := m.enter(state{to: len(m.nodes), rule: noRule}, []byte(names))
	return at.rule != noRule && r.fields[at.rule].Searchable
}
