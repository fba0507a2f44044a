"""`make mutations`: the code that defines the methods is changed in one place at a time, and the tests have to notice.

Every entry of the table is an edit of one file; a copy of the repository is changed, and the tests named for the file are run
on it. Prints what was killed (a test failed), what survived, and what is undecided (no test could say).

    python tests/mutations.py [--jobs 2] [--only losses] [--list]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parent.parent
TIMEOUT = 240  # seconds of one run of tests


@dataclass(frozen=True)
class Mutation:
    """One edit: `old` stands once in `file` and becomes `new`; `reason` says why a test cannot notice, if none can."""

    file: str
    old: str
    new: str
    tests: str
    reason: str = ""


LOSSES = [
    ("smoothing * vocabulary / (vocabulary - 1)", "smoothing * vocabulary / (vocabulary + 1)"),
    ('return smoothing if variant == "torch"', 'return smoothing if variant != "torch"'),
    ("(1 - plan.epsilon) * nll +", "(1 + plan.epsilon) * nll +"),
    ("+ plan.epsilon * sums[:, 1]", "- plan.epsilon * sums[:, 1]"),
    ("sums[model, 1] -= uniform.sum() / vocabulary", "sums[model, 1] += uniform.sum() / vocabulary"),
    ("sums[model, 1] -= uniform.sum() / vocabulary", "sums[model, 1] -= uniform.sum() / (vocabulary + 1)"),
    ("uniform * plan.mixed.whole[span]", "uniform"),
    ("-weight * (1 - plan.epsilon) * factor", "-weight * factor"),
    (".mul_(plan.mixed.whole[span, None])", ""),
    ("self.first[span, None] * found + self.second[span, None] * other", "found"),
    ("taught -= top.temperature**2", "taught -= top.temperature"),
    ("alpha=top.weight * top.temperature)", "alpha=top.weight)"),
    ("ids, -top.weight * top.temperature * probs", "ids, -top.weight * probs"),
    ("F.log_softmax(log_probs / top.temperature, dim=-1)", "F.log_softmax(log_probs, dim=-1)"),
    ("sums[model, 0] -= found.sum()", "sums[model, 0] += found.sum()"),
    ("slope.sub_(weight * plan.epsilon", "slope.add_(weight * plan.epsilon"),
    ("-weight * (1 - plan.epsilon))", "-weight)"),
    ("if term.teacher == term.student:", "if term.teacher != term.student:"),
    ("if term.cross_entropy else", "if not term.cross_entropy else"),
    ("log_probs[teacher] - log_probs[student]", "log_probs[student] - log_probs[teacher]"),
    ("add_weighted(pupil, p_s, share), p_t, -share)", "add_weighted(pupil, p_t, share), p_s, -share)"),
    ("add_weighted(pupil, p_s, share)", "add_weighted(pupil, p_s, 1.0)"),
    ("{term.teacher: term.teacher_gradient,", "{term.teacher: True,"),
    ("product.sub_(p_t * divergence)", "product.sub_(p_t)"),
    ("product.sub_(p_t * divergence), share)", "product.sub_(p_t * divergence), 1.0)"),
    ("divergences[0, index] += divergence.sum()", "divergences[0, index] -= divergence.sum()"),
    ("(entropies * scale).sum() + weighted", "(entropies * scale).sum() - weighted"),
    ("(divergence * share).sum()", "divergence.sum()"),
    ("(entropies * scale).sum()", "entropies.sum()"),
    ("if plan.weights[model] or learning[model]", "if plan.weights[model] and learning[model]"),
    ("state * head.scale", "state / head.scale"),
    ("of_bias += slope.sum(0)", "of_bias -= slope.sum(0)"),
    ("next(saved).mul_(total)", "next(saved)"),
    ("prob * weight if model in compared else prob.mul_(weight)", "prob.mul_(weight)"),
    ("return self.weight[: self.entries]", "return self.weight"),
    ("of_states[span] = slope @ matrix", "of_states[span] = slope @ matrix * 2"),
    ("add_product(of_weight[: len(matrix)], slope.T, states)", "pass"),
    ("for span in spans if wanted or plan.terms else ()", "for span in spans if plan.terms else ()"),
    ("Measured(entropies.tolist(), of_tokens)", "Measured(nll.tolist(), of_tokens)"),
    ("of_tokens[model, span] = -found", "of_tokens[model, span] = found"),
    ("[there, back] if self.symmetric else [there]", "[there]"),
    ("middle, -share / 2)", "middle, -share)"),
    (".mul_(0.5)", ""),
    ("/ len(term.directions)\n        moved", "\n        moved"),
    ("divergence.sum() / len(term.directions)", "divergence.sum()"),
    ("total.addcmul_(values, weight) if", "total.add_(values) if"),
]
ALL_IN_ONE = [
    ("self.anchor_weight / count", "self.anchor_weight"),
    ("Divergence(last, model, self", "Divergence(model, count, self"),
    ("weights_hash(anchor) for anchor", "str(0) for anchor"),
    (
        "self.rules.divergences(measured.cross_entropy[:count], mutual_weight)",
        "self.rules.divergences(measured.cross_entropy, 0.0)",
    ),
    ("border = round(start * updates)", "border = round((1 - start) * updates)"),
    ('"kd_weight": 1.5, "mutual_start": 0.0}', '"kd_weight": 5.5, "mutual_start": 0.0}'),
    ('"mutual_start": 0.5, "always": []}', '"mutual_start": 0.0, "always": []}'),
    ("self.args.mutual_start == 1 else self.border or 0", "self.args.mutual_start == 1 else 0"),
    ("self.args.max_steps if self.args.mutual_start == 1 else", "0 if self.args.mutual_start == 1 else"),
    ("if self.state.global_step >= start else", "if self.state.global_step > start else"),
    ("first(step) if step < meeting", "first(step) if step <= meeting"),
    ("second(step - meeting)", "second(step)"),
    ("self._stage_factors(num_training_steps - border)", "self._stage_factors(num_training_steps)"),
    ("        self.load_best()\n", "        pass\n"),
    ('if "optimizer" in self.args.stage2_reset', 'if "optimizer" not in self.args.stage2_reset'),
    ('if "best_metric" in self.args.stage2_reset', 'if "best_metric" in ()'),
    ('if "scheduler" in self.args.stage2_reset:', 'if "scheduler" not in self.args.stage2_reset:'),
    ("control.should_evaluate = control.should_save = True", "control.should_save = True"),
    ("        self.border = saved.kept", "        saved.kept"),
]
STUDENTS = [
    ("return ratio > self.detach_threshold", "return ratio >= self.detach_threshold"),
    ("return ratio > self.detach_threshold", "return ratio < self.detach_threshold"),
    ("ratio = student / teacher", "ratio = teacher / student"),
    ("self.detach_at_threshold and ratio ==", "self.detach_at_threshold or ratio =="),
    ("self.kd_weight / count", "self.kd_weight"),
    ("not self.detached(entropies[student], entropies[0])", "self.detached(entropies[student], entropies[0])"),
    ("self.detached(entropies[student], entropies[0])", "self.detached(entropies[student], entropies[-1])"),
    ("mutual_weight * 2 / (count", "mutual_weight / (count"),
    ("if entropies[second] >= entropies[first]", "if entropies[second] <= entropies[first]"),
    ("weight, not self.detach_senior", "weight, self.detach_senior"),
    ("Divergence(0, student,", "Divergence(student, 0,"),
    ("students = range(1, len(entropies))", "students = range(len(entropies) - 1)"),
    ("sum(not term.teacher_gradient for", "sum(term.teacher_gradient for"),
    (
        '"loss_kd": (loss.divergences[:count].sum(), float(count * tokens))',
        '"loss_kd": (loss.divergences[:count].sum(), float(tokens))',
    ),
    ("(loss.divergences[count:].sum()", "(loss.divergences[:count].sum()"),
    ('"loss_teacher": (loss.cross_entropy[0]', '"loss_teacher": (loss.cross_entropy[-1]'),
    ("(loss.cross_entropy[1:].sum()", "(loss.cross_entropy.sum()"),
    ("float((len(loss.terms) - count) * tokens)", "float(len(loss.terms) * tokens)"),
    ('derive_seed(self.args.seed, "students", key)', 'derive_seed("students", key)'),
    ('derive_seed(self.args.seed, "students", key)', 'derive_seed(self.args.seed, "students")'),
    ("k=count) if self.args.sample_with_replacement else", "k=count) if not self.args.sample_with_replacement else"),
    ("if depth not in self.always] or", "] or"),
    ("self.args.num_students - len(self.always)", "self.args.num_students"),
    ("[min(candidates, key", "[max(candidates, key"),
    ('"two": 1}', '"two": 0}'),
    ("numbers.get(views, number)", "numbers.get(views, 1)"),
    ('if self.args.students_per == "update" else', 'if self.args.students_per != "update" else'),
    ("return self.args.num_students + 1", "return self.args.num_students"),
    ('"""All candidates (AIO Eq. 9)."""\n        return self.candidates', '"""All."""\n        return self.candidates[:1]'),
    ("        Pass(teacher, 1.0),\n", "        Pass(teacher, 1.0, students[0]),\n"),
]
BOTH = [
    ("between = replace(loss, terms=loss.terms[inside:]", "between = replace(loss, terms=loss.terms[:inside]"),
    ("measured.cross_entropy[: count + 1], mutual_weight)", "measured.cross_entropy, mutual_weight)"),
    ("teacher=term.teacher + count)", "teacher=term.teacher)"),
    ("if depth != self.full)\n        self.always", "if depth)\n        self.always"),
    ('"mutual_weight": self.args.mutual_weight}', '"mutual_weight": 0.0}'),
    ("return (self.full,)", "return self.validation_depths()"),
    ("super().summed_losses if self.candidates else 1", "super().summed_losses"),
    ("return self.validation_depths() if self.candidates else ()", "return self.validation_depths()"),
    ("return Passes([own, *mine, *others]", "return Passes([own, *mine, *others[:1]]"),
]
DEPTH = [
    ("for encoder in range(2,", "for encoder in range(1,", "no decoder of two layers goes with an encoder of one"),
    ("for decoder in range(2,", "for decoder in range(1,"),
    ("min(encoder, full.decoder)", "full.decoder"),
    ("self.encoder > full.encoder or", "self.encoder > full.encoder and"),
]
PARETO = [
    ("weights[peer] or 0.0", "weights[0] or 0.0"),
    ('mine[batch["pair"]] for', "next(iter(mine.values())) for"),
    ("Pass(student, 1 - weight)", "Pass(student, 1.0)"),
    ("weight / len(teachers)", "weight"),
    ("teacher_gradient=False, cross_entropy=True", "teacher_gradient=False"),
    ("if other is not student] if weight", "if other is student] if weight"),
    ("frozen=True, dropout=self.teacher_dropout)", "frozen=True, dropout=True)"),
    ("Pass(each, frozen=True,", "Pass(each,"),
    ("self.state.global_step < self.args.warmup_without_kd", "self.state.global_step <= self.args.warmup_without_kd"),
    ("state.global_step >= args.warmup_without_kd", "state.global_step > args.warmup_without_kd"),
    ("if due and state.global_step < args.max_steps", "if due and state.global_step <= args.max_steps"),
    ("sign * value > sign * best[0]", "sign * value < sign * best[0]"),
    ("sign = 1 if self.args.greater_is_better else -1", "sign = -1 if self.args.greater_is_better else 1"),
    ("self.checkpoint(self.best_step(peer) or 0)", "self.checkpoint(self.best_step(0) or 0)"),
    ('"kd": (loss.divergences.sum(), float(len(loss.terms) * tokens))', '"kd": (loss.divergences.sum(), float(tokens))'),
    ("        self.rule.load_state_dict(saved)", "        pass"),
    ("Pass(each, frozen", "Pass(student, frozen"),
]
RULES = [
    ("mine > other", "mine < other"),
    ("mine > other", "mine >= other"),
    ("mine + self.tolerance >= other", "mine - self.tolerance >= other"),
    ("max(losses[:peer] + losses[peer + 1 :])", "min(losses[:peer] + losses[peer + 1 :])"),
    ("losses[peer + 1 :]", "losses[peer:]"),
    ("weight if at_once else 0.0", "weight"),
    ("{pair: candidates[action][pair] for", "{pair: weights[pair] for"),
    ("        if step_size == 0:", "        if step_size < 0:"),
    ("action: sum(found.values())", "action: max(found.values())"),
    ("measure.trials(peer, ", "measure.trials(0, "),
]
ACTIONS = [
    ("return min(order", "return max(order"),
    ("TIE_ORDER = (KEEP, INCREASE, DECREASE)", "TIE_ORDER = (INCREASE, KEEP, DECREASE)"),
    ("(1 - weight)) + step)", "(1 - weight)) - step)"),
    ("weight in (0.0, 1.0)", "weight == 0.0"),
    ("math.sqrt(max(0.0, 1 - decay * update / max_updates))", "max(0.0, 1 - decay * update / max_updates)"),
    ("1 - decay * update", "1 + decay * update"),
]
OFFICIAL = [
    ("CLIP = 0.98", "CLIP = 0.99"),
    ("math.floor(share * length + 1e-9) + 1", "math.floor(share * length + 1e-9)"),
    ("update % 2 == 0", "update % 2 == 1"),
    ("if peer == 0 and", "if peer == 1 and"),
    ("ORDER = (INCREASE, KEEP, DECREASE)", "ORDER = (KEEP, INCREASE, DECREASE)"),
    ("if decay == 1.2 else max_epoch", "if decay != 1.2 else max_epoch"),
    ("0.2 + 0.8 * root if", "0.8 * root if"),
    ("dict.fromkeys(self.weights[peer], -step)", "dict.fromkeys(self.weights[peer], step)"),
    ("1 + round(update / length)", "round(update / length)"),
]
TRIALS = [
    ("trainer.decision_depths(), self.smoothed)", "trainer.decision_depths())"),
    ("                snapshot.restore()", "                pass"),
    ("        trainer.lr_scheduler.load_state_dict(position)", "        pass"),
    ('(trainer.args.seed, peer, "trial", trainer.state.global_step)', '(trainer.args.seed, peer, "trial")'),
    ('loss = outputs["losses"][peer] / tokens', 'loss = outputs["losses"][peer]'),
    ("        trainer.clip_gradients([peer])", "        pass"),
    ("SamplerState(trainer.state.global_step * trainer.text.micro_batches)", "SamplerState()"),
]
SEEDS = [
    ('"/".join(map(str, keys))', '"".join(map(str, keys))'),
    ('int.from_bytes(digest[:8], "big")', 'int.from_bytes(digest[:8], "little")'),
]
SAMPLING = [
    ("min(left / (len(tokens) - number), epochs", "min(left / len(tokens), epochs"),
    ("sorted(tokens, key=lambda name: tokens[name])", "sorted(tokens, key=lambda name: -tokens[name])"),
    ("        left -= taken[name]", "        pass"),
    ("passes[name] * batches[name] / whole", "passes[name] * tokens[name] / whole"),
    ('self._probabilities = dict(state["probabilities"])', "pass"),
    ("dtype=np.float64)) / temperature", "dtype=np.float64)) * temperature"),
    ('uniform(*self.keys, "pair", state.number)', 'uniform(*self.keys, "pair")'),
    ("position = state.draws.get(pair, 0)", "position = 0"),
    ("{**state.draws, pair: position + 1}", "{pair: position + 1}"),
    ("if number % processes == rank", "if number % processes != rank", "nothing falls to a lone process, which waits for ever"),
    ("passes = probability * micro_batches / text.count if", "passes = probability * micro_batches if"),
    ("place * micro_batches // MOMENTS for", "-(-place * micro_batches // MOMENTS) for"),
]
BATCHES = [
    ("[batches[index] for index in generator.permutation(len(batches))]", "batches"),
    ("order = generator.permutation(len(rows))", "order = np.arange(len(rows))"),
    ('"order", self.name, turn, *place)', '"order", self.name, *place)'),
    ('(*self.keys, "windows", self.name, turn)', '(*self.keys, "windows", self.name)'),
    (".shuffle(blocks)", ".random()"),
    ("self._current[:2] != (turn, place)", "self._current[0] != turn"),
    ("range(position + fits, position + count, most)", "range(position, position + count, most)"),
    ("size = position + count - starts[-1] if starts else size + count", "size = count"),
    ("max(1, max_tokens // int(length))", "max(1, (max_tokens - 1) // int(length))"),
    ("np.maximum(*lengths), np.minimum(*lengths)", "np.minimum(*lengths), np.maximum(*lengths)"),
    ("turn, position = divmod(number, len(self))", "turn, position = 0, number % len(self)"),
    ("batch_first=True, padding_value=IGNORED", "batch_first=True, padding_value=pad_id"),
    ("torch.arange(input_ids.shape[1]) < lengths", "torch.arange(input_ids.shape[1]) <= lengths"),
]
VALIDATION = [
    (
        "loss, nll = means.mean((0, 1)).tolist()",
        "loss, nll = (sums[..., :2].sum((0, 1)) / sums[..., 2:].sum((0, 1))).tolist()",
    ),
    ("means[:, index, 0].mean()", "means[:, index, 1].mean()"),
    ("means[index, :, 0].mean()", "means[index, :, 1].mean()"),
    ("sum(each[name] for each in figures) / len(figures)", "sum(each[name] for each in figures)"),
    ("[loss.cross_entropy.item(), loss.nll.item()", "[loss.nll.item(), loss.cross_entropy.item()"),
]
WORD_KD = [
    ("1 - config.kd_weight if config.interpolate else 1.0", "1.0 if config.interpolate else 1.0"),
    ("math.ceil(rate * len(nll))", "math.floor(rate * len(nll))"),
    ("(mine >= hardness(known, self.rate))", "(mine > hardness(known, self.rate))"),
    ("torch.cat([self.remembered.to(mine.device), mine])", "mine"),
    ("torch.cat([known, torch.tensor(newest)])[-self", "torch.cat([torch.tensor(newest), known])[-self"),
    ("for number in sorted(found) for cost", "for number in list(found)[:1] for cost"),
    ('self.model.remembered = torch.tensor(progress["remembered"])', "pass"),
    ("student.load_state_dict(extract", "(extract"),
]
TAUGHT = [
    ("1.0 if teacher is None else self.entropy_weight", "self.entropy_weight"),
    ("self.token_weights(measured) * self.kd_weight", "self.token_weights(measured)"),
    (
        "Pass(self.student, self.entropy_weight), Pass(teacher, frozen=True)",
        "Pass(self.student, 1.0), Pass(teacher, frozen=True)",
    ),
    ('self.teachers.get(batch["pair"])', "next(iter(self.teachers.values()), None)"),
    ("cross_entropy=self.cross_entropy", "cross_entropy=False"),
    ("min(losses, key=lambda name", "max(losses, key=lambda name"),
]
MULTI_DISTILL = [
    ("Pass(self.student, 1 - weight)", "Pass(self.student, 1.0)"),
    ("(batch[TOP_LOGITS] / self.temperature).softmax(-1)", "batch[TOP_LOGITS].softmax(-1)"),
    ("student < teacher + AHEAD", "student < teacher"),
    ("student >= teacher - BEHIND", "student > teacher"),
    ("(student - teacher + BEHIND)", "(student - teacher)"),
    ('self.model.weights, self.teacher_bleu = dict(progress["weights"]), dict', "self.teacher_bleu = dict"),
]
TOP_ENTRIES = [
    ("for row, entries, values in zip(chosen.tolist()", "for row, entries, values in zip(sorted(chosen.tolist())"),
    ("found.get(key) != wanted[key]", "False"),
    ("== min(BLOCK, len(text) - number * BLOCK)", ">= 0"),
]
LSSD = [
    ("config, 0.5, config.kd_weight / 2", "config, 1.0, config.kd_weight"),
    ("theirs < mine, 1.0, LESS", "theirs > mine, 1.0, LESS"),
    ("(mine - theirs).exp()", "(theirs - mine).exp()"),
    (".clamp(max=1.0)", ".clamp(max=2.0)"),
    ("if loss < self.bests", "if loss > self.bests"),
    ("if best < self.epoch", "if best <= self.epoch"),
    ("copy.deepcopy(student).requires", "student.requires"),
    ('self.epoch = progress["epoch"]', "pass"),
    ("load_parameters(dict(self.copies[epoch]", "dict(dict(self.copies[epoch]"),
]
CHECKS = [("args.get_warmup_steps(steps)", "args.get_warmup_steps(args.max_steps)")]
TRAINER = [
    ('derive_seed(self.args.seed, peer, "dropout", number)', 'derive_seed(self.args.seed, "dropout", number)'),
    ('derive_seed(self.args.seed, peer, "dropout", number)', 'derive_seed(self.args.seed, peer, "dropout")'),
    ('shares = outputs["losses"] / num_items_in_batch', 'shares = outputs["losses"] / num_items_in_batch.sum()'),
    ("limit = summed * (self.args.max_grad_norm", "limit = (self.args.max_grad_norm"),
    ("torch.tensor(counts).sum(0)", "torch.tensor(counts)[0]"),
    ("(norm > (self.args.max_grad_norm or math.inf))", "(norm < (self.args.max_grad_norm or math.inf))"),
]
CHECKPOINTING = [
    ("            self.average.follow()", "            pass"),
    ("if not self.elsewhere and not agreed", "if not agreed"),
    ("found.index(start.resolve()) + 1", "found.index(start.resolve())"),
    ("kept = {newest, *map(self.checkpoint, self.best_steps())}", "kept = {newest}"),
    ("if problem is None:\n                return folder", "if problem:\n                return folder"),
]
STOCK = [
    ("return best or self.control.should_save", "return best"),
    ("if skip_scheduler and self.state.global_step > 0", "if False"),
]
EVALUATING = [
    ("0 if smoothed else 1", "1 if smoothed else 0"),
    ("pairs = self.eval_pairs if eval_dataset is None", "pairs = self.eval_pairs if eval_dataset is not None"),
    ("if not isinstance(each, EarlyStoppingCallback)", "if each"),
]
TRAINING_TEXT = [
    ("                args.seed,\n                peer,\n", "                args.seed,\n                0,\n"),
    ("each.rekeyed(args.seed, peer)", "each.rekeyed(args.seed, 0)"),
    (
        "{name: 1 if self.streamed else each.sentences or 0 for name, each in batches",
        "{name: each.count for name, each in batches",
    ),
    ("math.ceil(args.num_train_epochs * self.updates_per_pass)", "math.ceil(args.num_train_epochs)"),
    ("self.updates_per_pass = count / self.micro_batches", "self.updates_per_pass = count"),
    ("SamplerState(update * self.micro_batches)", "SamplerState(update)"),
    ("number = update * self.micro_batches", "number = update"),
]
SLICING = [
    ("nn.ModuleList(full[:count])", "nn.ModuleList(full[-count:])"),
    ("zip(fields, (depth.encoder, depth.decoder)", "zip(fields, (depth.decoder, depth.encoder)"),
    ("config.num_hidden_layers = depth.encoder", "config.num_hidden_layers = depth.decoder"),
]
PASSES = [
    ("weights[each.work] += each.weight", "weights[each.work] = each.weight"),
    ("head.constant() if view.frozen else head", "head"),
    ("model.train(was_training and dropout)", "model.train(was_training)"),
    ("alike[replace(view, view=0, cut=0.0, filler=None), frozenset", "alike[replace(view, view=0), frozenset"),
    ("alike[replace(view, view=0, cut=0.0, filler=None), frozenset", "alike[replace(view, cut=0.0, filler=None), frozenset"),
    (">= rates[:, None]", "< rates[:, None]"),
    ("(model.get_encoder(), model.get_decoder())} if", "(model.get_encoder(),)} if"),
    ("torch.rand(output.shape[:2]", "torch.rand(output.shape[1]"),
]
PROTOBUF = [
    ("(byte & 127) << shift", "(byte & 127)"),
]
TOKENIZER_JSON = [
    ("else HIDDEN + piece,", "else piece,"),
    ('decoders.Replace(HIDDEN, "")', "decoders.Replace(HIDDEN, HIDDEN)"),
    ("scores.get(piece, 0.0)", "scores.get(piece, -99.0)"),
    ("[words, names] if bytes_known else [words]", "[words]"),
    ("byte_fallback=bytes_known", "byte_fallback=False"),
    ('Regex(f"[{SPACES}]+")', 'Regex(" +")'),
    ('Regex("^ | $")', 'Regex("^ ")'),
    ("    if replaces_spaces_only(processor):", "    if False:"),
    ("not any(map(processor.normalize, SPACES)) and", ""),
    ("AddedToken(each, normalized=False) for each in tags", "AddedToken(each, normalized=False) for each in ()"),
    ("in known for number in ordinary(processor))", "in known for number in ())"),
    ("or sorted(known.values()) != list(range(len(known)))", ""),
]
BATCHING = [
    ("if len(self.waiting) + len(ids) > self.most", "if len(self.waiting) > self.most"),
    ("if not each.result.done()]", "]"),
    ("(self.beams, self.direction) == (other.beams, other.direction)", "self.beams == other.beams"),
    ("(self.beams, self.direction) == (other.beams, other.direction)", "self.direction == other.direction"),
    ("abs(len(each.ids) - len(first.ids))", "0"),
    ("max(WORTH, -(-len(alike) // self.workers))", "len(alike)"),
    ("width * (count + 1) > self.max_tokens", "width * count > self.max_tokens"),
    ("each.result.set_exception(error)", "each.result.cancel()"),
    ("done.result()[place]", "done.result()[0]"),
]
SERVER_APP = [
    ("    if count > most:", "    if False:"),
    ("if request.app.state.stopping():", "if False:"),
    ("targets.split(text)[0] != targets.default:", "False:"),
    ("if not isinstance(fields, dict):", "if False:"),
    ("    except TooMany as error:", "    except KeyError as error:"),
    ('.get("content-type", "").lower()', '.get("content-type", "")'),
    ("if wanted is not None and not", "if wanted is not None and False and not"),
    ("sum(map(len, texts))) > limits.characters", "sum(map(len, texts))) > limits.characters * 9"),
    ('text.count("\\n") + 1 for text', 'text.count("\\n") for text'),
    ('if asked.format != "text"', 'if asked.format == "xml"'),
    ('value.encode("utf-8", "replace").decode("utf-8")', "value"),
    ("except ClientDisconnect as error:", "except KeyError as error:"),
    ("if await request.is_disconnected():", "if False:"),
    ("if time.monotonic() >= end:", "if False:"),
    ("        task.cancel()\n", "        pass\n"),
    ("if much else function(values)", "if much else values"),
    ('{"Retry-After": "1"} if status == 503', '{"Retry-After": "1"} if status == 500'),
]
SERVED = [
    ("source in (pair.source, AUTO)", "source in (pair.source,)"),
    ("if both := found.keys() & served.keys():", "if both := set():"),
    ("default=tag)", 'default="")'),
    ("if len(found) == 1:", "if found:"),
]
CIPHERS = [
    ("double[place + key % count]", "double[place + 1]"),
    ("filter(str.isalpha, characters)", "characters"),
    ('"".join(sorted(', '"".join(list('),
    ("or len(set(turns)) < len(turns)", ""),
    ("if 0 in turns or", "if"),
    ("if count < 2", "if count < 1"),
    ("self.cipher.keys[batch.number % len(self.cipher.keys)]", "self.cipher.keys[0]"),
    ("cut([*tag, *row], self.longest)", "cut([*row], self.longest)"),
    ("cut([*tag, *row], self.longest)", "[*tag, *row]"),
    ("key > 0 for key", "key >= 0 for key"),
    ("yield self.enciphered(source, key)", "yield source"),
]
CONSISTENCY = [
    (".get(self.consistency, 5.0)", ".get(self.consistency, 3.0)"),
    ('"simcut": 3.0', '"simcut": 5.0'),
    ("if updates >= start else 0.0", "if updates > start else 0.0"),
    ("CIPHER_START = 500", "CIPHER_START = 400"),
    ('change = {"source": CIPHERED}', 'change = {"source": ""}'),
    ('"between": self.config.consistency == "cutoff"', '"between": False'),
    ('"symmetric": self.config.consistency in ("r_drop", "cipher")', '"symmetric": True'),
    ('"symmetric": self.config.consistency in ("r_drop", "cipher")', '"symmetric": False'),
    ("{*tokenizer.all_special_ids, *tags}", "{*tags}"),
    ("weight=weight, view=each.view + offset", "weight=1.0, view=each.view + offset"),
    ("weight=weight, view=each.view + offset", "weight=weight, view=each.view"),
    ('{"cut": self.config.cut_rate, "filler"', '{"cut": 0.0, "filler"'),
    ("return 2 if self.consistency in", "return 1 if self.consistency in"),
    ("Divergence(place, first + place", "Divergence(0, first + place"),
]
MIXING = [
    ("torch.maximum(shares, 1 - shares)", "shares"),
    ("kept * copies + (1 - kept) * copies[:, self.partners]", "kept * copies + (1 - kept) * copies"),
    ("rest = (1 - kept) * (others != IGNORED)", "rest = (1 - kept)"),
    ("kept[real], rest[real]", "rest[real], kept[real]"),
    ("stacks = (model.get_encoder(), model.get_decoder()) if", "stacks = (model.get_encoder(),) if"),
    ("stacks = (model.get_encoder(), model.get_decoder()) if", "stacks = (model.get_decoder(),) if"),
]
SHARES = [
    ("(p * (q / p - 1).square()).sum()", "(q / p - 1).square().sum()"),
    ("q = p * (s - eta).clamp(min=0)", "q = (s - eta).clamp(min=0)"),
    ("torch.maximum(q / q.sum(), LEAST * p)", "q / q.sum()"),
    ("p * (s == s.max())", "p * (s == s.min())"),
    ("torch.maximum(shares(low), p.min())", "torch.maximum(shares(low), p)"),
    ("(-(weights * F.log_softmax(psi, dim=0)).sum())", "((weights * F.log_softmax(psi, dim=0)).sum())"),
    ('"pre_tp": lambda best, entropy: 1 - best.sum().exp()', '"pre_tp": lambda best, entropy: 1 - best.mean().exp()'),
    ('"exp_tp": lambda best, entropy: 1 - best.mean().exp()', '"exp_tp": lambda best, entropy: 1 - best.sum().exp()'),
    ("best.var() if len(best) > 1", "best.var(unbiased=False) if len(best) > 1"),
    ("(variances(best) / best.mean()).exp()", "(variances(best) / best.sum()).exp()"),
    ('"ent_eos": lambda best, entropy: entropy[-1]', '"ent_eos": lambda best, entropy: entropy[0]'),
    ("return float(entropy.mean())", "return float(entropy.sum())"),
]
SAMPLERS = [
    ("KEPT * self.averages + (1 - KEPT) * new", "KEPT * new + (1 - KEPT) * self.averages"),
    ("torch.where(sums[:, 1] > 0, known, self.averages)", "known"),
    ("losses.isnan(), 0.0, losses - baseline", "losses.isnan(), 0.0, losses + baseline"),
    ("gradient / gradient.norm())", "gradient)"),
    ("directions @ gradient / gradient.norm() / count", "directions @ gradient / gradient.norm()"),
    ("directions @ gradient / gradient.norm() / count", "directions @ gradient / count"),
    ("        model.train()\n", "        model.eval()\n"),
    ("return sum(found) / len(found)", "return found[0]"),
    ("distribution.change(state.global_step * trainer.text.micro_batches", "distribution.change(state.global_step"),
    ('return {"scores": self.scores}', 'return {"scores": [0.0 for _ in self.scores]}'),
]
CHANGING = [
    ("if number <= state.number", "if number < state.number + 2"),
    ("round(done * micro_batches)", "round(phase.share * micro_batches)"),
    ("state.number / self.micro_batches", "0.0"),
    ("found.get(name, 0.0) / whole", "found.get(name, 0.0)"),
    ('self.micro_batches = state.get("micro_batches", self.micro_batches)', "pass"),
]
AVERAGING = [
    ("(1 - self.decay) / (1 - self.decay**count)", "(1 - self.decay)"),
    ("(1 - self.decay) / (1 - self.decay**count)", "self.decay / (1 - self.decay**count)"),
    ("get_ema_multi_avg_fn(1 - newest)", "get_ema_multi_avg_fn(newest)"),
    ("            parameter.copy_(self.averages[name])", "            pass"),
    ("            self.averages[name].copy_(kept)", "            pass"),
    ("            self.parameters[name].copy_(average)", "            pass"),
    ("        load_parameters(self.averaged_of(model), path)", "        pass"),
]
STATES = [
    ("        if norm is not None:", "        if norm is None:"),
    ("layers[count - 1].register_forward_hook", "layers[0].register_forward_hook"),
    ("real = labels != IGNORED", "real = labels != -1"),
]
SIGNIFICANCE = [
    ("LEVEL = 0.05", "LEVEL = 0.5"),
    ("self.p_value < LEVEL", "self.p_value > LEVEL"),
    ("float(row.mean - row.ci)", "float(row.mean + row.ci)"),
    ("1.0 if row.score == first else float(row.p_value)", "float(row.p_value)"),
    ("scores[name].value - scores[first].value", "scores[first].value - scores[name].value"),
]
CONTAMINATION = [
    ("keys[number + 2]", "keys[number]"),
    ("(pair.source, pair.target)):\n                if", "(pair.target, pair.source)):\n                if"),
    ("(left, right, left and right)", "(left, right, left or right)"),
]
NORMALISED = [
    ('[0] in "LMN"', '[0] in "LN"'),
    (".casefold()", ""),
    ("if not chr(point).isalnum()", "if not chr(point).isalpha()"),
    ("text.lower().encode()", "text.encode()"),
]
SHARDS = [
    ("mask &= seen", "mask |= seen"),
    ("chosen < start + len(places)", "chosen <= start + len(places)"),
    ("<= job.max_length", "< job.max_length"),
    ("keys[1:, mask]", "keys[:4, mask]"),
    ("enumerate(chunk, count)", "enumerate(chunk)"),
    ("number * SHARD + int", "int"),
]
STREAMS = [
    ("copy.deepcopy(self.source.state_dict()))", "None)"),
    ('"buffer", mark.buffer)', '"buffer")'),
    ("np.flatnonzero(longer <= self.max_tokens)", "np.arange(len(rows))"),
    ("mark.first + len(self.batches)", "mark.first + len(self.batches) + 1"),
    ("return StreamBatches(self.name, self.dataset, self.max_tokens, self.buffer, self.check, *keys)", "return self"),
    ('max(len(row["input_ids"]), len(row["labels"])) <= max_length', "True"),
]
FACTS = [
    ("facts.rows == len(dataset)", "len(dataset)"),
    ("for column in COLUMNS:\n        for chunk", "for column in COLUMNS[:1]:\n        for chunk"),
]
KEYSET = [
    ("np.where(np.fromiter(map(len, loose), np.int64) > 0, keys_of(loose), np.uint64(0))", "keys_of(loose)"),
    ("new[pending[won]] = True", "new[pending] = True"),
    ("free & (self.table[at] == wanted)", "free"),
]
FRONTIER = [
    ("left >= right for left", "left > right for left"),
    ("other != own and all(", "all("),
    ("- rise * (last.high - first.high) < 0", "- rise * (last.high - first.high) > 0"),
]
BOOTSTRAP = [
    ("np.ones(sentences, np.int64)", "np.zeros(sentences, np.int64)"),
    ("default_rng(seed)", "default_rng()"),
    ("np.mean(np.stack(scores), axis=0)", "np.median(np.stack(scores), axis=0)"),
    ("np.percentile(scores[1:],", "np.percentile(scores,"),
    ("[TAIL, 100 - TAIL]", "[2 * TAIL, 100 - 2 * TAIL]"),
    ("differences = scores - against", "differences = against - scores"),
    ("- differences[1:].mean())", ")"),
    ("centred >= abs(found.value)", "centred > abs(found.value)"),
    (") + 1\n", ")\n"),
    ("(len(p_values) - rank)", "len(p_values)"),
    ("max(largest, min(", "max(0.0, min("),
    ("SEED + next(", "SEED + 1 + next("),
    ("if source == other[0] or reference == other[1])", "if source is other[0])"),
]
LANGUAGES = [
    ("for each in (pair.source, pair.target)", "for each in (pair.target, pair.source)"),
    ("Direction(words[pair] or tags[pair])", "Direction(tags[pair])"),
    ("if not words[pair]))", "))"),
    ("target = tgt_lang or getattr", "target = getattr"),
    ("source = src_lang or getattr", "source = getattr"),
    ("source in (None, start) and target in (None, end)", "source in (None, start)"),
    ("    if len(found) > 1:", "    if False:"),
    ('str(config.get("prefix") or "")', '""'),
    ("if kind.removesuffix", "if False and kind.removesuffix"),
    ('"legacy_behaviour", False)', '"none", False)'),
    ("coded.add_special_tokens", "coded.all_special_tokens and (lambda _: None)"),
    ("ours.language == theirs.language and", "ours.language != theirs.language and"),
    ("wanted in (None, there)", "wanted in (None, there, wanted)"),
    ("    finally:\n        tokenizer.src_lang, tokenizer.tgt_lang = before", "    finally:\n        pass"),
    ("[direction.before + source for", "[source for"),
    ('"forced_bos_token_id" if starts_as_usual(tokenizer) else "decoder_start_token_id"', '"forced_bos_token_id"'),
    ("if len(targets) == 1 and", "if"),
    ("    if len(known) == 1:", "    if True:"),
    ("if tasks and not known_tags(tokenizer):", "if tasks:"),
]
DISTILLED = [
    ("if record.of == TRAINING:", "if False:"),
    ("row.source != one_line(wanted)", "row.target != one_line(wanted)"),
    ("zip_longest(rows, sources)", "zip(rows, sources, strict=False)"),
    ("((source, record.sources), (target, record.targets))", "((source, record.sources),)"),
    ('"num_beams", "max_tokens", "of"', '"max_tokens", "of"'),
    ('"of", "tags", "sources")', '"of", "sources")'),
]
DISTILL = [
    ("*options, told[part.pair])", "*options)"),
    ("if not part.path.is_file()]", "]"),
    ('distilled_dir=None), "train"', 'distilled_dir=None), "validation"'),
    ("if begun and plan.same_work(begun)", "if begun"),
    ("range(-(-len(found.lines) // SHARD))", "range(len(found.lines) // SHARD)"),
    ("seconds=plan.seconds + seconds", "seconds=seconds"),
]
SYSTEMS = [
    ("/ sum(bool(mine & others) for others in scored)", "/ len(scored)"),
    ("if len(known) == 2 else []\n    if changed", "if False else []\n    if changed"),
    ("[metric].value for run in runs.values()", "[metric].value * 2 for run in runs.values()"),
    ("base.get(place) or base.get(replace(place, peer=None))", "base.get(place)"),
    ("if value != getattr(known, name)", "if False"),
    ("each.value * sign > 0", "each.value * sign < 0"),
    ("values = iter(holm(", "values = iter(list("),
    ("if other is not None and not is_base", "if other is not None"),
]
TRIMMING = [
    ("if set(pieces[number]) <= letters}", "if wanted[number]}"),
    ("key=lambda each: -wanted[each])", "key=lambda each: wanted[each])"),
    ("chosen += spare[: max(0, room - len(chosen))]", "pass"),
    ('key=lambda number: (names[number] == "<pad>", number)', "key=lambda number: number", "<pad> has the last id already"),
    ("return [*chosen[:-1], *more, chosen[-1]]", "return [*chosen, *more]"),
    ("found[rows == UNUSED] = otherwise", "pass"),
    ("return picked(tensor[0], target, NEVER)[None]", "return tensor[:, : len(target)]"),
    ("setattr(config, name, ids.get(old))", "pass"),
    ("if ordinary and (text in dropped", "if False and (text in dropped"),
    ("(text in dropped or (known is not None and text not in known))", "text in dropped"),
    ('key != "added_tokens_decoder"', 'key != "none"'),
]
PROOF = [
    ("[kept.source[each] for each in new[row]] == old[row]", "len(new[row]) == len(old[row])"),
    ("proof.rechosen += 1", "proof.equal += 1"),
    ("(proof.ties if found.gap <= TIE else proof.broken)", "proof.ties"),
]
SHRINK = [
    ('"always" if tagged else "needed"', '"needed"'),
    ("list(islice(rows, recipe.shrink.held_out))", "[]"),
    ("*rows, *(zip(own.sources, own.targets, strict=True) if own else ())", "*rows"),
    ('"anchor": str(start.model)', '"anchor": None'),
    ("if proof.problem:", "if False:"),
]
BOUNDS = [
    ('for side in ("k", "v")', 'for side in ("k",)'),
    ("source + of_source * module", "source + (not of_source) * module"),
    ("0, model.get_output_embeddings().weight.numel()", "0, 0"),
    ("cls(source + sum(", "cls(sum("),
    ("text.sentences * weights.source * width / self.read", "text.source * weights.source * width / self.read"),
    ("text.target * max(weights.target * width", "text.target * min(weights.target * width"),
    ("encoder = max(", "encoder = min("),
    ("return encoder + decoder", "return decoder"),
    ("(text.source * weights.source + text", "(text"),
]
ONNX_SEARCH = [
    ("words[ended] = pad", "pass"),
    ("ended |= words == end", "ended = words == end"),
    ("np.array([made.shape[1] > 1])", "np.array([False])"),
    ("if made.shape[1] == longest - 1 and", "if made.shape[1] == longest and"),
    ("forced[0] if made.shape[1] == 1 else None", "None"),
    ("settings = self.settings | generation_arguments", "settings = generation_arguments"),
    ('"input_ids": made[:, -1:]', '"input_ids": made[:, :1]'),
    ("best(found[0][:, -1], never", "best(found[0][:, -1], ()"),
    ('{"transformers.js_config": {"dtype": TYPES[quantization]}}', "{}"),
    ("model.generation_config.save_pretrained(folder)", "pass"),
]
GRAPHS = [
    ("cache.is_updated[layer] = True", "cache.is_updated[layer] = False"),
    ("layers[: 1 if self.cached else 2]", "layers[:2]"),
    ("[{0: rows, 2: past}] * 2 + [{0: rows, 2: source}] * 2", "[{0: rows, 2: past}] * 4"),
    ("((later, LATER), (first, FIRST))", "((first, FIRST), (later, LATER))"),
    ("copied = copy.deepcopy(model).eval().float()", "copied = model.eval().float()"),
    ("if size > LARGEST:", "if False:"),
]
TABLE = {  # file below the package: its edits, and the tests that have to notice them
    "losses.py": (LOSSES, "tests/test_losses.py"),
    "methods/all_in_one.py": (ALL_IN_ONE, "tests/methods/test_all_in_one.py tests/training/test_trainer.py"),
    "methods/students.py": (STUDENTS, "tests/methods/test_all_in_one.py tests/training/test_trainer.py"),
    "methods/pareto_all_in_one.py": (BOTH, "tests/methods/test_pareto_all_in_one.py"),
    "models/depth.py": (DEPTH, "tests/models/test_slicing.py tests/methods/test_all_in_one.py"),
    "methods/pareto_mutual.py": (PARETO, "tests/methods/test_pareto_mutual.py"),
    "methods/weighting/rules.py": (RULES, "tests/methods/weighting/test_rules.py"),
    "methods/weighting/actions.py": (ACTIONS, "tests/methods/weighting/test_actions.py tests/methods/weighting/test_rules.py"),
    "methods/weighting/auto_official.py": (
        OFFICIAL,
        "tests/methods/weighting/test_auto_official.py tests/methods/weighting/test_rules.py",
    ),
    "methods/weighting/trials.py": (TRIALS, "tests/methods/weighting"),
    "data/seeds.py": (SEEDS, "tests/data/test_seeds.py tests/data/test_sampling.py"),
    "data/sampling.py": (SAMPLING, "tests/data/test_sampling.py tests/training/test_trainer.py"),
    "data/batches.py": (BATCHES, "tests/data/test_batches.py tests/data/test_sampling.py"),
    "training/checks.py": (CHECKS, "tests/methods/test_all_in_one.py"),
    "training/validation.py": (
        VALIDATION,
        "tests/training/test_validation.py tests/training/test_trainer.py tests/methods/test_pareto_mutual.py",
    ),
    "training/trainer.py": (TRAINER, "tests/training/test_trainer.py tests/methods/test_pareto_mutual.py"),
    "training/evaluating.py": (EVALUATING, "tests/training/test_trainer.py tests/training/test_checkpointing.py tests/methods"),
    "training/checkpointing.py": (CHECKPOINTING, "tests/training/test_checkpointing.py tests/training/test_averaging.py"),
    "training/stock.py": (STOCK, "tests/training/test_checkpointing.py"),
    "training/text.py": (
        TRAINING_TEXT,
        "tests/training/test_trainer.py tests/methods/test_pareto_mutual.py tests/training/test_samplers.py",
    ),
    "models/passes.py": (PASSES, "tests/models/test_passes.py tests/methods/test_plain.py"),
    "methods/consistency.py": (CONSISTENCY, "tests/methods/test_plain.py tests/methods/test_all_in_one.py"),
    "models/mixing.py": (MIXING, "tests/methods/test_plain.py"),
    "training/shares.py": (SHARES, "tests/training/test_samplers.py"),
    "training/samplers.py": (SAMPLERS, "tests/training/test_samplers.py"),
    "data/changing.py": (CHANGING, "tests/training/test_samplers.py"),
    "methods/word_kd.py": (WORD_KD, "tests/methods/test_word_kd.py"),
    "methods/taught.py": (TAUGHT, "tests/methods/test_word_kd.py tests/methods/test_lssd.py"),
    "methods/multi_distill.py": (MULTI_DISTILL, "tests/methods/test_multi_distill.py"),
    "methods/top_entries.py": (TOP_ENTRIES, "tests/methods/test_multi_distill.py"),
    "methods/lssd.py": (LSSD, "tests/methods/test_lssd.py"),
    "training/averaging.py": (AVERAGING, "tests/training/test_averaging.py"),
    "models/slicing.py": (SLICING, "tests/models/test_slicing.py"),
    "models/states.py": (STATES, "tests/models/test_states.py"),
    "evaluation/significance.py": (SIGNIFICANCE, "tests/evaluation/test_significance.py"),
    "evaluation/bootstrap.py": (BOOTSTRAP, "tests/evaluation/test_bootstrap.py tests/runs/test_systems.py"),
    "data/languages.py": (LANGUAGES, "tests/data/test_languages.py tests/runs/test_families.py"),
    "data/distilled.py": (DISTILLED, "tests/runs/test_distill.py"),
    "runs/distill.py": (DISTILL, "tests/runs/test_distill.py"),
    "models/trimming.py": (TRIMMING, "tests/models/test_trimming.py"),
    "evaluation/proof.py": (PROOF, "tests/evaluation/test_trimming_proof.py"),
    "runs/shrink.py": (SHRINK, "tests/runs/test_shrink.py"),
    "runs/systems.py": (SYSTEMS, "tests/runs/test_systems.py"),
    "evaluation/contamination.py": (CONTAMINATION, "tests/evaluation/test_contamination.py"),
    "utils/text.py": (NORMALISED, "tests/evaluation/test_contamination.py"),
    "data/shards.py": (SHARDS, "tests/data/test_shards.py"),
    "data/streams.py": (STREAMS, "tests/training/test_streams.py tests/runs/test_text.py"),
    "utils/protobuf.py": (PROTOBUF, "tests/models/test_trimming.py"),
    "data/tokenizer_json.py": (TOKENIZER_JSON, "tests/data/test_tokenizer_json.py"),
    "bench/bounds.py": (BOUNDS, "tests/bench/test_bounds.py"),
    "inference/onnx.py": (ONNX_SEARCH, "tests/inference/test_onnx.py"),
    "inference/graphs.py": (GRAPHS, "tests/inference/test_onnx.py"),
    "serving/batching.py": (BATCHING, "tests/serving/test_batching.py"),
    "serving/app.py": (SERVER_APP, "tests/serving/test_app.py"),
    "serving/models.py": (SERVED, "tests/serving/test_app.py"),
    "data/ciphers.py": (CIPHERS, "tests/data/test_ciphers.py"),
    "data/facts.py": (FACTS, "tests/data/test_facts.py tests/training/test_signature.py"),
    "data/hashing.py": (KEYSET, "tests/data/test_shards.py tests/evaluation/test_contamination.py"),
    "evaluation/frontier.py": (FRONTIER, "tests/evaluation/test_frontier.py"),
}
MUTATIONS = [
    Mutation(f"hf_paretokd/{file}", *edit[:2], tests, *edit[2:]) for file, (edits, tests) in TABLE.items() for edit in edits
]


def changed(mutation: Mutation, root: Path = ROOT) -> str:
    """The text of the file with the edit made; it has to be possible in one place only."""
    text = (root / mutation.file).read_text("utf-8")
    assert text.count(mutation.old) == 1, f"{mutation.file}: {mutation.old!r} stands {text.count(mutation.old)} times"
    return text.replace(mutation.old, mutation.new)


def outcome(mutation: Mutation, copy: Path) -> str:
    """What the tests say of one edit, made in a copy of the repository and taken back."""
    path = copy / mutation.file
    before = path.read_bytes()
    path.write_text(changed(mutation, copy), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutation.tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        code = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=TIMEOUT, check=False).returncode
    except subprocess.TimeoutExpired:
        return "undecided"
    finally:
        path.write_bytes(before)
    return {0: "survived", 1: "killed"}.get(code, "undecided")


def run(mutations: list[Mutation], jobs: int) -> list[tuple[Mutation, str]]:
    """The outcome of every edit, printed as it comes."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: Queue[Path] = Queue()
        for number in range(jobs):
            copy = Path(folder) / str(number)
            for name in ("hf_paretokd", "tests", "recipes", "model_cards", "pyproject.toml", "docs", "README.md"):
                place = ROOT / name
                shutil.copytree(place, copy / name) if place.is_dir() else shutil.copy(place, copy / name)
            copies.put(copy)

        def judged(mutation: Mutation) -> tuple[Mutation, str]:
            copy = copies.get()
            try:
                found = outcome(mutation, copy)
            finally:
                copies.put(copy)
            print(f"{found:9}  {mutation.file}: {mutation.old!r} -> {mutation.new!r}", flush=True)
            return mutation, found

        return list(pool.map(judged, mutations))


def main() -> int:
    """Runs the table; 1 if an edit survived that is not explained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="files whose path holds this")
    options = parser.parse_args()
    found = run([each for each in MUTATIONS if options.only in each.file], options.jobs)
    print(", ".join(f"{count} {kind}" for kind, count in Counter(kind for _, kind in found).items()), "of", len(found))
    for mutation, kind in found:
        if kind != "killed":
            print(f"{kind}: {mutation.file}: {mutation.old!r} -> {mutation.new!r}: {mutation.reason or 'unexplained'}")
    return int(any(kind == "survived" and not mutation.reason for mutation, kind in found))


if __name__ == "__main__":
    sys.exit(main())
