package localcloud

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ocelot-audit/ocelot/pkg/wiring/archivefiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/exportfiles"
	"github.com/ocelot-audit/ocelot/pkg/wiring/tombstones"
)

// TestAFolderThatCannotBeOpenedIsAnError has a file in the place of a folder.
func TestAFolderThatCannotBeOpenedIsAnError(t *testing.T) {
	for _, folder := range []string{exportfiles.Folder, tombstones.Folder, archivefiles.Folder} {
		data := t.TempDir()
		if err := os.WriteFile(filepath.Join(data, folder), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := openEngine(t.Context(), Options{Data: data})
		if err != nil {
			continue
		}
		t.Errorf("%s: got no error, want one", folder)
		if err := e.close(); err != nil {
			t.Error(err)
		}
	}
}
