/**
 * Comfort on the page: a chosen task fills the instruction and, on the Apply nodes behind it, what the authors recommend
 * for the loaded family; the instruction is greyed where it does not count; what a node said in its last run stays on it.
 * Nothing here is needed: without this folder the nodes are whole. Tasks and figures come from the server, which has the
 * one table. No drawing, so that it works on the canvas and as Vue nodes alike.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { APPLY, ENCODE, LOADER, appliesOf, isLinked, isOurs, loaderOf, nodesOfKind, widgetOf } from './graph.js'
import { addSaid, say, sayAgain } from './status_text.js'
import { RECOMMENDED, TaskTable, tidy } from './tasks.js'
import { ifThere, soon, withAnswer } from './there.js'

const OWN = 'own words' // the choice of the task list with which the instruction counts
const OWN_WORDS = 'ipadapter_instruct.own_words' // node property: the last instruction typed by hand
const TYPED = 'ipadapter_instruct.typed' // node property: names of the widgets set by hand
const TEXTS = {
  untrained: '⚠ not a trained task',
  plain: '⚠ takes no instruction',
  menu: 'Recommended settings',
  lastRun: 'last run:'
}

let tasks // TaskTable
let filling = false // while this file sets a value, callbacks are not the user's doing
const texts = { ...TEXTS }
const PLAIN = 'plain' // stands for the family of an adapter that takes no instruction: no task is recommended for it
const families = new Map() // file name -> its family's name, null for none, or a promise while the server is asked
const trained = new Map() // file name -> a set of the instructions that this pack trained it on, tidied

app.registerExtension({
  name: 'IPAdapterInstruct.page',

  async init() {
    const [table] = await Promise.all([getJson('/ipadapter_instruct/tasks'), translate()])
    tasks = table && new TaskTable(table)
  },

  nodeCreated(node) {
    if (isOurs(node)) keepSaid(node)
    if (!tasks) return
    if (node.comfyClass === ENCODE) watchEncode(node)
    if (node.comfyClass === APPLY) watchApply(node)
    if (node.comfyClass === LOADER) after(widgetOf(node, 'adapter_name'), 'callback', refreshAll)
  },

  afterConfigureGraph: refreshAll,

  getNodeMenuItems(node) {
    if (!tasks || node.comfyClass !== ENCODE) return []
    return [{ content: texts.menu, callback: ifThere(node, takeRecommended) }]
  }
})

function keepSaid(node) {
  addSaid(node)
  after(node, 'onExecuted', (output) => say(node, texts.lastRun, output?.text))
  after(node, 'onConfigure', () => soon(node, sayAgain))
}

// The task

function watchEncode(encode) {
  after(widgetOf(encode, 'task'), 'callback', ifThere(encode, choose))
  after(widgetOf(encode, 'instruction'), 'callback', ifThere(encode, () => filling || refresh(encode)))
  for (const event of ['onAdded', 'onConfigure', 'onConnectionsChange']) after(encode, event, () => soon(encode, refresh))
}

function choose(encode) {
  if (filling) return
  const task = tasks.named(widgetOf(encode, 'task').value)
  const instruction = widgetOf(encode, 'instruction')
  if (!isLinked(encode, 'instruction')) {
    set(instruction, task ? task.instruction : encode.properties[OWN_WORDS] || instruction.value)
  }
  refresh(encode)
  if (task) withAnswer(encode, knownFamily, (_, family) => recommend(encode, task, family))
}

/** Show what counts and what the file was not trained on; at once, and again when the server has told the family. */
function refresh(encode) {
  if (knownFamily(encode) instanceof Promise) show(encode, null)
  withAnswer(encode, knownFamily, show)
}

/** Grey the instruction where the task's own words count, and mark on the list what the file was not trained on. */
function show(encode, family) {
  const [list, instruction] = ['task', 'instruction'].map((name) => widgetOf(encode, name))
  if (!list || !instruction) return
  const isOwn = list.value === OWN
  if (isOwn && instruction.value) encode.properties[OWN_WORDS] = instruction.value
  instruction.disabled = !isOwn // on the canvas
  instruction.options.disabled = !isOwn // as a Vue node
  list.ownLabel ??= list.label ?? list.name
  const warning = warningFor(encode, family, list.value, instruction.value)
  list.label = warning ? `${list.ownLabel} (${warning})` : list.ownLabel
  app.canvas?.setDirty(true, true)
}

function warningFor(encode, family, choice, words) {
  if (!fileOf(encode)) return '' // an adapter that was just trained, or none yet: nothing is known of it
  if (family === PLAIN) return texts.plain
  const task = tasks.named(choice)
  if (task) return tasks.of(family).includes(task) ? '' : texts.untrained
  const isKnown = tasks.namedIn(words, family).length || trained.get(fileOf(encode))?.has(tidy(words))
  return isKnown ? '' : texts.untrained
}

function refreshAll() {
  if (tasks) for (const encode of nodesOfKind(app.rootGraph, ENCODE)) soon(encode, refresh)
}

// What Apply is recommended

/** Fill the Apply nodes behind an Encode node; what was set by hand there only if `all`. */
function recommend(encode, task, family, all = false) {
  const settings = task && tasks.recommended(task, family)
  if (!settings) return
  for (const apply of appliesOf(encode)) {
    if (all) delete apply.properties[TYPED]
    for (const name of RECOMMENDED) {
      if (!isLinked(apply, name) && (all || !isTyped(apply, name))) set(widgetOf(apply, name), settings[name])
    }
  }
}

function takeRecommended(encode) {
  withAnswer(encode, knownFamily, (_, family) => {
    const [chosen, words] = ['task', 'instruction'].map((name) => widgetOf(encode, name).value)
    recommend(encode, tasks.named(chosen) ?? tasks.namedIn(words, family)[0], family, true)
  })
}

function watchApply(apply) {
  for (const name of RECOMMENDED) {
    after(widgetOf(apply, name), 'callback', () => {
      if (!filling) apply.properties[TYPED] = [...new Set([...typedNames(apply), name])].join(' ')
    })
  }
}

/** Set by hand here, or, in a file that does not tell, a value that is neither the default nor any recommended one. */
function isTyped(apply, name) {
  if (typedNames(apply).includes(name)) return true
  const value = widgetOf(apply, name).value
  return value !== defaultOf(apply, name) && !tasks.everRecommended(name).has(value)
}

function typedNames(apply) {
  return (apply.properties[TYPED] ?? '').split(' ').filter(Boolean)
}

function defaultOf(node, name) {
  const { required, optional } = node.constructor.nodeData.input
  return (required?.[name] ?? optional?.[name])?.[1]?.default
}

// Small things

/** The family of the connected adapter file: its name, null for none, or a promise of it while the server is asked. */
function knownFamily(encode) {
  const file = fileOf(encode)
  if (!file) return null
  if (!families.has(file)) families.set(file, askFamily(file))
  return families.get(file)
}

/** The name of the connected adapter file, or undefined. */
function fileOf(encode) {
  return widgetOf(loaderOf(encode) ?? {}, 'adapter_name')?.value
}

async function askFamily(file) {
  const answer = await getJson(`/ipadapter_instruct/family?adapter=${encodeURIComponent(file)}`)
  trained.set(file, new Set(answer?.instructions?.map(tidy)))
  families.set(file, answer?.takes_instruction === false ? PLAIN : answer?.family ?? null)
  return families.get(file)
}

/** Set a widget as the user would, so that every renderer shows it. */
function set(widget, value) {
  if (!widget || widget.value === value) return
  const before = filling
  filling = true
  try {
    widget.value = value
    widget.callback?.(value)
  } finally {
    filling = before
  }
  app.canvas?.setDirty(true, true)
}

/** Call `then` after an object's method, which may be absent. */
function after(object, name, then) {
  const original = object?.[name]
  if (!object) return
  object[name] = function (...values) {
    const result = original?.apply(this, values)
    then(...values)
    return result
  }
}

async function getJson(route) {
  try {
    const response = await api.fetchApi(route)
    return response.ok ? await response.json() : null
  } catch {
    return null // the nodes work without
  }
}

/** The texts of this file in the page's language, from locales/. */
async function translate() {
  const language = app.extensionManager?.setting?.get?.('Comfy.Locale') ?? 'en'
  if (language === 'en') return
  const all = await getJson('/i18n')
  Object.assign(texts, all?.[language]?.ipadapterInstruct)
}
