// `xenstored convert`: from one store backend's file to another's.
//
// It is chosen by the command line's first word, which no option of the daemon is. Exit status: 0 done, 1 it
// could not be done, 2 where the command line or the configuration is wrong.

import ArgumentParser
import Glibc
import XenStore
import XenStoreHost

struct ConvertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xenstored convert",
        abstract: "Carry a store from one backend's file to another's, while no daemon uses either.",
        discussion: """
            MODULE is a backend's name or the absolute path of a shared object; FILE becomes its option \
            `path`. The new file must not be there yet. The old one stays as it is.
            """)

    @Option(help: ArgumentHelp("What to convert.", valueName: "module:file"))
    var from: String

    @Option(help: ArgumentHelp("What to make of it.", valueName: "module:file"))
    var to: String

    @Option(
        help: ArgumentHelp("One more option of the old backend. May be repeated.", valueName: "key=value"))
    var fromOption: [String] = []

    @Option(
        help: ArgumentHelp("One more option of the new backend. May be repeated.", valueName: "key=value"))
    var toOption: [String] = []

    @Option(
        name: .customLong("config"),
        help: ArgumentHelp("The configuration that says where modules are.", valueName: "file"))
    var configurationFile: String?

    /// Does what `arguments` (behind `convert`) ask. Returns the exit status.
    static func main(_ arguments: [String]) -> Int32 {
        do {
            let command = try parse(arguments)
            let options = try DaemonOptions(
                file: command.configurationFile, changes: ConfigurationChanges(), flags: DaemonFlags())
            let from = try side(command.from, command.fromOption, "--from", options)
            let to = try side(command.to, command.toOption, "--to", options)
            return convert(command, from, to)
        } catch let mistakes as ConfigurationMistakes {
            complain(mistakes.description)
        } catch let failure as StartFailure {
            complain("xenstored convert: \(failure)")
        } catch let mistake as OptionMistake {
            complain("xenstored convert: \(mistake)")
        } catch {
            if exitCode(for: error) == .success {
                print(message(for: error))
                return 0
            }
            complain("xenstored convert: \(message(for: error)) (xenstored convert --help lists the options)")
        }
        return 2
    }

    /// What `MODULE:FILE` and the options behind it say.
    private static func side(
        _ text: String, _ extra: [String], _ name: String, _ options: DaemonOptions
    ) throws -> ConvertedStore {
        guard let colon = text.firstIndex(of: ":"), colon != text.startIndex,
            text.index(after: colon) != text.endIndex
        else { throw OptionMistake("\(name): found \"\(text)\", expected MODULE:FILE") }
        var choice = StoreChoice(options, builtIn: XenstoredCommand.builtIn)
        let module = String(text[..<colon])
        choice.backend = Placed(module.contains("/") ? options.environment.absolute(module) : module)
        choice.options = try extra.map { text in
            guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
                throw OptionMistake("\(name)-option: found \"\(text)\", expected KEY=VALUE")
            }
            let key = String(text[..<equals])
            guard key != "path" else {
                throw OptionMistake("\(name)-option: found \"path\", which \(name) has already said")
            }
            return ModuleOption(Placed(key), Placed(String(text[text.index(after: equals)...])))
        }
        _ = try choice.module()
        let file = String(text[text.index(after: colon)...])
        return ConvertedStore(choice, file: options.environment.absolute(file))
    }

    private static func convert(
        _ command: ConvertCommand, _ from: ConvertedStore, _ to: ConvertedStore
    ) -> Int32 {
        do throws(StartFailure) {
            let log = try Log(.standardError, level: .info)
            defer { log.close() }
            var tenths = 0
            let summary = try Conversion(from: from, to: to, log: log).run { done, all in
                guard all > 0, done * 10 / all > tenths else { return }
                tenths = done * 10 / all
                complain("xenstored convert: \(done) of \(all) records")
            }
            print(
                "\(command.from) -> \(command.to): \(summary.nodes) nodes, \(summary.notes) notes, "
                    + "\(summary.bytes) bytes, batch \(summary.sequence)")
            return 0
        } catch {
            complain("xenstored convert: \(error)")
            return 1
        }
    }
}
