package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// unfinished is an export whose file is not complete. Beside the file to be, FILE.next has what was
// downloaded, and FILE.next.json this record, so that a later run goes on. Two runs must not use one file
// at the same time.
type unfinished struct {
	// Export is the id of the export.
	Export string `json:"export"`
	// Request is a digest of what the export was asked for. It is empty if the export was named by its id.
	Request string `json:"request,omitempty"`
	// SHA256 is that of the whole file of which FILE.next is the beginning. It is empty before the download.
	SHA256 string `json:"sha256,omitempty"`
}

func partPath(output string) string { return output + ".next" }

func recordPath(output string) string { return partPath(output) + ".json" }

// readUnfinished returns what an earlier run has left beside the file. It returns an error that is
// fs.ErrNotExist if there is nothing to go on with.
func readUnfinished(output string) (unfinished, error) {
	path := recordPath(output)
	text, err := os.ReadFile(path)
	if err != nil {
		return unfinished{}, err
	}
	var left unfinished
	if err := json.Unmarshal(text, &left); err != nil || left.Export == "" {
		return unfinished{}, fmt.Errorf("%s is not the record of an export; remove it to begin again", path)
	}
	if left.SHA256 == "" {
		return left, nil
	}
	// Without its part, the file was complete, or somebody has removed the part.
	if _, err := os.Stat(partPath(output)); err != nil {
		return unfinished{}, err
	}
	return left, nil
}

func (u unfinished) store(output string) error {
	text, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("store the record of an export: %w", err)
	}
	if err := replaceFile(recordPath(output), append(text, '\n')); err != nil {
		return fmt.Errorf("store the record of an export: %w", err)
	}
	return nil
}

// discardUnfinished removes the part and its record, if they exist.
func discardUnfinished(output string) error {
	return errors.Join(removeIfExists(partPath(output)), removeIfExists(recordPath(output)))
}

func removeIfExists(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
