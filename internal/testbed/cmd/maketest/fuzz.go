package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// target is a fuzz target: its package's folder and its name.
type target struct{ dir, name string }

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// targets returns all fuzz targets below the folder root.
func targets(root string) ([]target, error) {
	var all []target
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzFunc.FindAllSubmatch(b, -1) {
			all = append(all, target{filepath.Dir(path), string(m[1])})
		}
		return nil
	})
	return all, err
}

// fuzz runs the fuzz targets one after another, each for the duration each.
func fuzz(ctx context.Context, each string) error {
	all, err := targets(".")
	if err != nil {
		return err
	}
	for _, t := range all {
		fmt.Printf("== %s %s\n", t.dir, t.name)
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each, "./"+t.dir)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s in %s: %w", t.name, t.dir, err)
		}
	}
	fmt.Printf("%d targets, %s each: no failures\n", len(all), each)
	return nil
}
