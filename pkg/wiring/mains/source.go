package mains

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocelot-audit/ocelot/pkg/manifest"
)

// constructorFolder has the packages that declare constructors of handlers.
const constructorFolder = "pkg/edge"

// source is what the generator reads of the repository's code.
type source struct {
	constructors map[string]constructor // by name in lower case, such as createlog
	values       map[string]string      // what Services gives, by type: "*ingest.Service" is "Ingest()"
	workers      map[string]string      // the methods of Services, likewise
}

// constructor is a function that makes a handler.
type constructor struct {
	pkg, name  string   // import path and identifier
	parameters []string // types as a file outside of the package spells them
}

// handler is the code that makes a function's handler.
type handler struct {
	imports    []string
	expression func(services string) string
}

// handler returns the code that makes the function's handler.
func (s *source) handler(f manifest.Function) (handler, error) {
	name := manifest.CamelCase(f.Name)
	key := strings.ToLower(name) // initialisms are spelled otherwise: GetOpenAPI
	if c, ok := s.constructors[key]; ok {
		arguments := make([]string, len(c.parameters))
		for i, parameter := range c.parameters {
			value, known := s.values[parameter]
			if !known {
				return handler{}, fmt.Errorf("function %s: wiring.Services has no method that returns %s, a parameter of %s.%s", f.Name, parameter, filepath.Base(c.pkg), c.name)
			}
			arguments[i] = value
		}
		return handler{imports: []string{c.pkg}, expression: func(services string) string {
			return filepath.Base(c.pkg) + "." + c.name + "(" + services + "." + strings.Join(arguments, ", "+services+".") + ")"
		}}, nil
	}
	if method, ok := s.workers[key]; ok {
		return handler{expression: func(services string) string { return services + "." + method + "()" }}, nil
	}
	return handler{}, fmt.Errorf("function %s: %s has no constructor %s, and wiring.Services no method of that name", f.Name, constructorFolder, name)
}

// readSource reads the constructors and what Services gives.
func readSource(root string) (*source, error) {
	s := &source{constructors: map[string]constructor{}, values: map[string]string{}, workers: map[string]string{}}
	folders, err := filepath.Glob(filepath.Join(root, constructorFolder, "*"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", constructorFolder, err)
	}
	for _, folder := range folders {
		name := filepath.Base(folder)
		err := eachDeclaration(folder, func(d ast.Decl) { s.addConstructor(module+constructorFolder+"/"+name, d) })
		if err != nil {
			return nil, err
		}
	}
	return s, eachDeclaration(filepath.Join(root, "pkg", "wiring"), s.addServices)
}

// eachDeclaration parses the Go files of a folder, without tests.
func eachDeclaration(folder string, do func(ast.Decl)) error {
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return fmt.Errorf("list %s: %w", folder, err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", path, err)
		}
		for _, d := range file.Decls {
			do(d)
		}
	}
	return nil
}

// handlerTypes are the results of constructors.
var handlerTypes = []string{"http.Handler", "httpapi.Message"}

func (s *source) addConstructor(pkg string, d ast.Decl) {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
		return
	}
	within := filepath.Base(pkg)
	if !slices.Contains(handlerTypes, typeName(f.Type.Results.List[0].Type, within)) {
		return
	}
	c := constructor{pkg: pkg, name: f.Name.Name}
	for _, field := range f.Type.Params.List {
		for range max(1, len(field.Names)) {
			c.parameters = append(c.parameters, typeName(field.Type, within))
		}
	}
	s.constructors[strings.ToLower(f.Name.Name)] = c
}

// addServices reads the methods of Services that have no parameters.
func (s *source) addServices(d ast.Decl) {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv == nil || typeName(f.Recv.List[0].Type, "wiring") != "*wiring.Services" || !f.Name.IsExported() {
		return
	}
	if f.Type.Params.NumFields() > 0 || f.Type.Results.NumFields() != 1 {
		return
	}
	s.workers[strings.ToLower(f.Name.Name)] = f.Name.Name
	s.values[typeName(f.Type.Results.List[0].Type, "wiring")] = f.Name.Name + "()"
}

// typeName spells a type as a file outside of the package within does.
func typeName(e ast.Expr, within string) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return "*" + typeName(e.X, within)
	case *ast.ArrayType:
		if e.Len == nil {
			return "[]" + typeName(e.Elt, within)
		}
	case *ast.Ident:
		if ast.IsExported(e.Name) {
			return within + "." + e.Name
		}
	}
	var text strings.Builder
	if err := printer.Fprint(&text, token.NewFileSet(), e); err != nil {
		return "" // a builder never fails
	}
	return text.String()
}

func isOwn(importPath string) bool { return strings.HasPrefix(importPath, module) }
