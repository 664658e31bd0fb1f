package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// target is one fuzz target.
type target struct {
	pkg    string // import path
	path   string // of the package in the module, ./pipeline/codec
	dir    string
	binary string // the package's test program, built for fuzzing
	name   string
}

// goPackage is what `go list` says of a package.
type goPackage struct {
	ImportPath, Dir           string
	Module                    struct{ Path string }
	TestGoFiles, XTestGoFiles []string
}

// find builds the test programs of all packages that have targets, and asks them for these.
func (o *options) find(ctx context.Context) (targets []target, err error) {
	text, err := goOutput(ctx, "list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles", "./...")
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return targets, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		has, err := p.fuzzes()
		if err != nil {
			return nil, err
		}
		if !has {
			continue
		}
		found, err := o.build(ctx, &p)
		if err != nil {
			return nil, err
		}
		targets = append(targets, found...)
	}
}

// fuzzes reports whether a test of the package may have a target, which saves the others from being built.
func (p *goPackage) fuzzes() (bool, error) {
	for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		text, err := os.ReadFile(filepath.Join(p.Dir, file))
		if err != nil {
			return false, err
		}
		if bytes.Contains(text, []byte("\nfunc Fuzz")) {
			return true, nil
		}
	}
	return false, nil
}

// build makes the test program of a package and lists its targets.
func (o *options) build(ctx context.Context, p *goPackage) (targets []target, err error) {
	binary := filepath.Join(o.binaries, strings.ReplaceAll(p.ImportPath, "/", "_")+".test")
	if _, err := goOutput(ctx, "test", "-c", "-fuzz=Fuzz", "-o", binary, p.ImportPath); err != nil {
		return nil, err
	}
	list := exec.CommandContext(ctx, binary, "-test.list=^Fuzz")
	list.Dir = p.Dir
	text, err := list.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("list the targets of %s: %w: %s", p.ImportPath, err, text)
	}
	for _, name := range strings.Fields(string(text)) {
		if o.target.MatchString(name) {
			path := "." + strings.TrimPrefix(p.ImportPath, p.Module.Path)
			targets = append(targets, target{p.ImportPath, path, p.Dir, binary, name})
		}
	}
	return targets, nil
}

// goCommand runs the go command and returns the lines of its output.
func goCommand(ctx context.Context, args ...string) ([]string, error) {
	text, err := goOutput(ctx, args...)
	return strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

func goOutput(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, problem.String())
	}
	return text, nil
}
