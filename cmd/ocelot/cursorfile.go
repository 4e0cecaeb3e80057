package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// startCursor returns the cursor to start after: the given one, or that of the file if it
// exists. It returns "" if there is none.
func startCursor(after, path string) (string, error) {
	if path == "" {
		return after, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the cursor: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// storeCursor replaces the file.
func storeCursor(path, cursor string) error {
	if err := replaceFile(path, []byte(cursor+"\n")); err != nil {
		return fmt.Errorf("store the cursor: %w", err)
	}
	return nil
}

// replaceFile replaces a file. If the machine stops at any time, the file has the old text or the
// new one.
func replaceFile(path string, text []byte) error {
	next := path + ".next"
	err := writeDurably(next, text)
	if err == nil {
		err = os.Rename(next, path)
	}
	return err
}

func writeDurably(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// endTornLine ends the last line of the output if it is a file that a killed run left in the
// middle of a line. The next entry must not be glued to it. Systems that do not let a program
// read the file of its standard output keep the line as it is.
func endTornLine(out io.Writer) error {
	file, isFile := out.(*os.File)
	if !isFile {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	reader, err := os.Open(file.Name())
	if err != nil {
		return nil
	}
	defer func() { _ = reader.Close() }() // it was only read
	last := make([]byte, 1)
	if read, err := reader.Stat(); err != nil || !os.SameFile(info, read) {
		return nil // it is another file
	}
	if _, err := reader.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.WriteString("\n")
	return err
}

// syncOutput makes what was printed durable if the output is a file.
func syncOutput(out io.Writer) error {
	file, isFile := out.(*os.File)
	if !isFile {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	return file.Sync()
}
