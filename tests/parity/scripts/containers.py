"""Containers of modules and parameters."""



def a_module_list_is_a_list(torch):
    nn = torch.nn
    ml = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    ml.append(nn.ReLU())
    ml.insert(1, nn.Tanh())
    ml.extend([nn.Identity()])
    print(ml, len(ml), ml[-1], ml[1:3], 3 in range(2))
    ml[0] = nn.Linear(2, 5)
    del ml[2]
    print(ml)
    p = ml.pop(0)
    print(p, ml, [type(m).__name__ for m in ml])
    print(ml + nn.ModuleList([nn.Linear(1, 1)]))
    ml += [nn.Sigmoid()]
    print(ml, dir(ml)[-1])
    try:
        ml[10]
    except IndexError as e:
        print(e)


def a_module_dict_is_a_dict(torch):
    nn = torch.nn
    md = nn.ModuleDict({'a': nn.Linear(2, 2), 'b': nn.ReLU()})
    md['c'] = nn.Tanh()
    md.update([['d', nn.Identity()]])
    print(md, list(md.keys()), 'a' in md, len(md))
    print(md.pop('b'), list(md.items())[0][0], [type(v).__name__ for v in md.values()])
    del md['d']
    print(md)
    md.clear()
    print(md, len(md))
    try:
        md['zz']
    except KeyError as e:
        print('KeyError', e)


def a_parameter_list_is_a_list(torch):
    nn = torch.nn
    pl = nn.ParameterList([nn.Parameter(torch.randn(2)), torch.randn(3)])
    pl.append(nn.Parameter(torch.ones(1)))
    pl.extend([nn.Parameter(torch.zeros(2, 2))])
    print(pl, len(pl), pl[0], pl[1:3], [tuple(p.shape) for p in pl])
    pl += [nn.Parameter(torch.zeros(1))]
    pl[0] = nn.Parameter(torch.zeros(4))
    print(pl)
    print(pl)
    print(list(pl.state_dict()), [n for n, _ in pl.named_parameters()])


def a_parameter_dict_is_a_dict(torch):
    nn = torch.nn
    pd = nn.ParameterDict({'a': nn.Parameter(torch.randn(2)), 'b': torch.randn(3)})
    pd['c'] = nn.Parameter(torch.ones(1))
    pd.update({'d': nn.Parameter(torch.zeros(2, 2))})
    print(pd, len(pd), list(pd), list(pd.keys()), [tuple(v.shape) for v in pd.values()], 'a' in pd)
    print(pd.get('a'), pd.get('zz'), pd.setdefault('e', torch.ones(2)), pd.pop('a'), pd.popitem()[0])
    print(pd.copy(), pd | {'q': torch.ones(1)}, pd.fromkeys(['k'], torch.zeros(1)), list(reversed(pd)))
    pd |= {'r': torch.ones(1)}
    print(pd)
    del pd['r']
    pd.clear()
    print(pd)


def a_sequential_can_be_taken_apart_and_joined(torch):
    from collections import OrderedDict
    nn = torch.nn
    s = nn.Sequential(OrderedDict([('fc', nn.Linear(2, 3)), ('act', nn.ReLU())]))
    s.append(nn.Linear(3, 1))
    s.extend([nn.Tanh()])
    print(s, s.fc if hasattr(s, 'fc') else None, s[0:2])
    t = nn.Sequential(nn.Linear(1, 1)) + nn.Sequential(nn.ReLU())
    print(t)
    t *= 2
    print(t, t * 2)
    print(t.pop(0))
    del t[0]
    print(t)
    t[0] = nn.Tanh()
    print(t)
